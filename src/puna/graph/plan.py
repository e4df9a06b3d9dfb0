"""Memory planning: an offset in one arena for every value of a program, reusing what is no longer needed.

It knows sizes and lifetimes, not ops.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value", bound=Hashable)
ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector register."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[Value]):
    """Where each value lives (bytes from the arena's start), and how large the arena is."""

    offsets: dict[Value, int]
    size: int


@dataclass(frozen=True, slots=True)
class Life(Generic[Value]):
    """A value of `size` bytes, written in step `first` and last read in step `last`."""

    value: Value
    size: int
    first: int
    last: int


def plan(lives: Sequence[Life[Value]]) -> Plan[Value]:
    """Places values, largest first, at the lowest offset free for their whole life."""
    placed: list[tuple[int, int, int, int]] = []  # start, end, first, last; by start
    offsets: dict[Value, int] = {}
    for life in sorted(lives, key=lambda life: (-life.size, life.first)):
        size = -(-life.size // ALIGNMENT) * ALIGNMENT
        start = 0
        for s, e, first, last in placed:
            if s >= start + size:
                break
            if e > start and first <= life.last and life.first <= last:
                start = e
        offsets[life.value] = start
        insort(placed, (start, start + size, life.first, life.last))
    return Plan(offsets, max((e for _, e, *_ in placed), default=0))
