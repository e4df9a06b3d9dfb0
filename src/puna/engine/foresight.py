"""What one sequence may say next, by what was said before, and how likely that is by how such guesses turned out.

Every guess is judged by what came, tried or not: so it costs nothing to know that guesses do not pay.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from puna.engine.lookup import Lookup

LENGTHS = (3, 4, 6, 10, 18)
"""Tokens in common from which on guesses are better than with fewer."""
CHANCES = (0.2, 0.35, 0.5, 0.65, 0.85, 0.95)
"""Of the next token being right, before anything is known of the text."""
WEIGHT = 3.0
"""How many judged guesses those count for."""
MEMORY = 0.97
"""What is left of a judgement with each one after it."""


class Odds:
    """How often guesses were right, by how many tokens they had in common."""

    def __init__(self) -> None:
        self._right = [chance * WEIGHT for chance in CHANCES]
        self._all = [WEIGHT] * len(CHANCES)

    def note(self, common: int, right: bool) -> None:
        """Count a token of a guess."""
        i = bisect(LENGTHS, common)
        self._right[i] = self._right[i] * MEMORY + right
        self._all[i] = self._all[i] * MEMORY + 1

    def of(self, common: int) -> float:
        """The chance of the next token."""
        i = bisect(LENGTHS, common)
        return self._right[i] / self._all[i]


@dataclass(slots=True)
class Foresight:
    """Guesses of at most `most` tokens at once, after `before`, which is not the sequence's own but may be repeated.

    `proposed` of them were computed in advance, and `accepted` were right.
    """

    most: int
    before: tuple[int, ...] = ()
    proposed: int = 0
    accepted: int = 0
    _lookup: Lookup | None = None
    _known: int = 0
    _guess: list[int] = field(default_factory=list)
    _common: int = 0
    _odds: Odds = field(default_factory=Odds)

    def look(self, tokens: list[int], dropped: int = 0) -> tuple[list[int], list[float]]:
        """What may follow `tokens`, which have grown since the last call, and the chance of each to be reached.

        `dropped` are no longer among them: they may be said again, too.
        """
        if self._lookup is None:  # made when needed, as it reads all of a prompt
            self._lookup = Lookup(self.before)
        new = tokens[max(self._known - dropped, 0) :]
        self._judge(new)
        self._lookup.add(new)
        self._known = len(tokens) + dropped
        self._guess, self._common = self._lookup.find(self.most)
        chances, chance = [], 1.0
        for common in range(self._common, self._common + len(self._guess)):
            chance *= self._odds.of(common)
            chances.append(chance)
        return self._guess, chances

    def _judge(self, came: Iterable[int]) -> None:
        for common, (said, guessed) in enumerate(zip(came, self._guess, strict=False), self._common):
            self._odds.note(common, said == guessed)
            if said != guessed:
                return
