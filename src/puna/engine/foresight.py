"""What one sequence may say next, by what was said before or predicted, and how likely by how guesses turned out.

Every guess is judged by what came, tried or not: so it costs nothing to know that guesses do not pay.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from operator import mul

from puna.engine.lookup import Lookup
from puna.engine.predicted import Predicted

Guess = tuple[list[int], list[float]]
"""Tokens, and the chance of each to be reached."""

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


PREDICTED = (1, 2, 4, 8)
"""Tokens of a predicted text that were right, from which on the next is more likely right than behind fewer."""
PREDICTED_CHANCES = (0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(slots=True)
class Guesses:
    """What a text, told what is said, guesses to come next, and how such guesses turned out."""

    text: Lookup | Predicted
    _odds: Odds = field(default_factory=Odds)
    _guess: list[int] = field(default_factory=list)
    _alike: int = 0

    def look(self, new: list[int], most: int) -> Guess:
        """A guess of at most `most` tokens behind `new` ones, and the chance of each to be reached."""
        self._odds.judge(count(self._alike), self._guess, new)
        self.text.add(new)
        self._guess, self._alike = self.text.find(most)
        each = (self._odds.of(alike) for alike in range(self._alike, self._alike + len(self._guess)))
        return self._guess, list(accumulate(each, mul))


@dataclass(slots=True)
class Foresight:
    """Guesses of at most `most` tokens at once, after `before`, which is not the sequence's own but may be repeated.

    What is said may be like the tokens of a text that is `predicted`, behind `prompt` tokens. `proposed` guesses were
    computed in advance, and `accepted` were right.
    """

    most: int
    before: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()
    prompt: int = 0
    proposed: int = 0
    accepted: int = 0
    _sources: list[Guesses] = field(default_factory=list)
    _known: int = 0

    def look(self, tokens: list[int], dropped: int = 0) -> Guess:
        """What may follow `tokens`, which have grown since the last call, and the chance of each to be reached.

        `dropped` are no longer among them: they may be said again, too.
        """
        if not self._sources:  # made when needed, as this reads all of a prompt
            self._sources.append(Guesses(Lookup(self.before)))
            if self.predicted:
                reading = Predicted(self.predicted, self.prompt)
                self._sources.append(Guesses(reading, Odds(PREDICTED, PREDICTED_CHANCES)))
        new = tokens[max(self._known - dropped, 0) :]
        self._known = len(tokens) + dropped
        return max((source.look(new, self.most) for source in self._sources), key=lambda found: sum(found[1]))
