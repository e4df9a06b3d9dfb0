"""A text that an answer is expected to be like, and how far the answer has come in it. It knows token ids only."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise


class Predicted:
    """Reads along in `tokens` with what is said behind `skip` tokens of a prompt.

    `right` counts what was said where it stood next in the text.
    """

    def __init__(self, tokens: Sequence[int], skip: int = 0) -> None:
        self.right = 0
        self._tokens = tokens
        self._skip = skip
        self._last = -1
        self._at = 0  # the place of what stands next
        self._alike = 0  # tokens that were right before it
        self._there = True  # whether the answer is at that place
        self._places: dict[tuple[int, int], list[int]] = {}
        for place, pair in enumerate(pairwise(tokens), 2):
            self._places.setdefault(pair, []).append(place)

    def add(self, said: Iterable[int]) -> None:
        """Go on with tokens."""
        for token in said:
            if self._skip:
                self._skip -= 1
                continue
            if self._there and self._at < len(self._tokens) and self._tokens[self._at] == token:
                self._at, self._alike, self.right = self._at + 1, self._alike + 1, self.right + 1
            else:
                self._find(token)
            self._last = token

    def find(self, count: int) -> tuple[list[int], int]:
        """What stands next, at most `count` tokens, and how many before it were right."""
        return list(self._tokens[self._at : self._at + count]) if self._there else [], self._alike

    def _find(self, token: int) -> None:
        """Where the last two tokens stand: the next such place, else the first one; otherwise the place is lost."""
        places = self._places.get((self._last, token), [])
        self._there, self._alike = bool(places), 0
        if places:
            after = bisect_left(places, self._at)
            self._at = places[after if after < len(places) else 0]


def foretold(prediction: Sequence[int], answer: Iterable[int]) -> int:
    """How many tokens of a prediction came in an answer."""
    reading = Predicted(prediction)
    reading.add(answer)
    return min(reading.right, len(prediction))
