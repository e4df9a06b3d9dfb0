"""Byte-pair merging: join the best-ranked pair of neighbours, the leftmost of equals, until no pair has a rank.

It knows neither vocabularies nor text, only the rank of a pair.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import inf

Rank = Callable[[str, str], float]
"""Rank of two neighbours, lower first; infinity where they do not join."""

_LONG = 400  # pieces from which on a heap beats a scan over a list


def merge(pieces: list[str], rank: Rank) -> list[str]:
    """Joins neighbours of `pieces` in order of `rank`; the concatenation stays the same."""
    return _merge_long(pieces, rank) if len(pieces) > _LONG else _merge_short(pieces, rank)


def _merge_short(pieces: list[str], rank: Rank) -> list[str]:
    pieces = list(pieces)
    ranks = [rank(a, b) for a, b in pairwise(pieces)]
    while ranks:
        best = min(ranks)
        if best == inf:
            break
        at = ranks.index(best)
        pieces[at] += pieces[at + 1]
        del pieces[at + 1], ranks[at]
        if at:
            ranks[at - 1] = rank(pieces[at - 1], pieces[at])
        if at < len(ranks):
            ranks[at] = rank(pieces[at], pieces[at + 1])
    return pieces


def _merge_long(pieces: list[str], rank: Rank) -> list[str]:
    parts: list[str] = list(pieces)
    before = list(range(-1, len(parts) - 1))
    after = [*range(1, len(parts)), -1]
    heap = [(r, i, a, b) for i, (a, b) in enumerate(pairwise(parts)) if (r := rank(a, b)) < inf]
    heapify(heap)
    while heap:
        _, left, a, b = heappop(heap)
        right = after[left]
        if right < 0 or parts[left] != a or parts[right] != b:
            continue  # one side has been joined since
        parts[left], parts[right] = a + b, ""
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
        for i in (before[left], left):
            if i >= 0 and after[i] >= 0 and (r := rank(parts[i], parts[after[i]])) < inf:
                heappush(heap, (r, i, parts[i], parts[after[i]]))
    return [part for part in parts if part]
