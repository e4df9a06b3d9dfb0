"""What one sequence may say next, by what was said before, and how likely that is by how such guesses turned out.

Every guess is judged by what came, tried or not: so it costs nothing to know that guesses do not pay.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from puna.engine.lookup import Lookup

LENGTHS = (3, 4, 6, 10, 18)
"""Tokens in common from which on guesses are better than with fewer."""
CHANCES = (0.15, 0.25, 0.4, 0.55, 0.75, 0.9)
"""Of the next token being right, before anything is known of the text: between what prose has and what code has."""
WEIGHT = 3.0
"""How many judged guesses those count for."""
MEMORY = 0.97
"""What is left of a judgement with each one after it."""


class Odds:
    """How often guesses were right, by what speaks for them: less than each of `bounds`, or not less than all."""

    def __init__(self, bounds: Sequence[float] = LENGTHS, chances: Sequence[float] = CHANCES) -> None:
        self._bounds = bounds
        self._right = [chance * WEIGHT for chance in chances]
        self._all = [WEIGHT] * len(chances)

    def of(self, grounds: float) -> float:
        """The chance of a token."""
        i = bisect(self._bounds, grounds)
        return self._right[i] / self._all[i]

    def judge(self, grounds: Iterable[float], guess: Iterable[int], came: Iterable[int]) -> list[bool]:
        """Learn from what came in the place of a guess: whether each token was right, up to the first that was not."""
        judged = []
        for ground, guessed, said in zip(grounds, guess, came, strict=False):
            i = bisect(self._bounds, ground)
            self._right[i] = self._right[i] * MEMORY + (guessed == said)
            self._all[i] = self._all[i] * MEMORY + 1
            judged.append(guessed == said)
            if guessed != said:
                break
        return judged


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
        self._odds.judge(count(self._common), self._guess, new)
        self._lookup.add(new)
        self._known = len(tokens) + dropped
        self._guess, self._common = self._lookup.find(self.most)
        chances, chance = [], 1.0
        for common in range(self._common, self._common + len(self._guess)):
            chance *= self._odds.of(common)
            chances.append(chance)
        return self._guess, chances
