"""Where in a text its end stood before: what came there may come again. It knows token ids only."""

from __future__ import annotations

from collections.abc import Iterable

TRIES = 16
"""Earlier places of the last two tokens that are compared, the latest ones."""
ENOUGH = 24
"""Tokens in common behind which no longer match is looked for."""


class Lookup:
    """A text that grows, and for each of its places the one before with the same two tokens."""

    def __init__(self, before: Iterable[int] = ()) -> None:
        self._said: list[int] = []
        self._latest: dict[tuple[int, int], int] = {}
        self._earlier: list[int] = []  # by place: the place before behind the same two tokens, 0 for none
        self.add(before)

    def add(self, tokens: Iterable[int]) -> None:
        """Go on with tokens."""
        said, latest, earlier = self._said, self._latest, self._earlier
        last = said[-1] if said else -1
        for place, token in enumerate(tokens, len(said) + 1):
            pair = (last, token)
            earlier.append(latest.get(pair, 0))
            latest[pair] = place
            said.append(token)
            last = token

    def find(self, count: int) -> tuple[list[int], int]:
        """What may come next, `count` tokens or none, and how many tokens before it are as they were there."""
        best, length, tries = 0, 0, TRIES
        place = self._earlier[-1] if self._earlier else 0
        while place and tries and length < ENOUGH:
            alike = self._alike(place)
            if alike > length:
                best, length = place, alike
            place, tries = self._earlier[place - 1], tries - 1
        if not best:
            return [], 0
        period = len(self._said) - best  # what is shorter than `count` goes round
        return [self._said[best + i % period] for i in range(count)], length

    def _alike(self, place: int) -> int:
        """How many tokens before a place are those at the end, up to ENOUGH."""
        said, end = self._said, len(self._said)
        most = min(place, ENOUGH)
        return next((n for n in range(2, most) if said[place - 1 - n] != said[end - 1 - n]), most)
