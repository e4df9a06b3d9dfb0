"""What each token of a run reads of the memory of its sequence: worked out on the host, for backends that gather it.

Tokens that ask alone for their sequence go in one group; others, sequence by sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.errors import BackendError

Array = NDArray[Any]


@dataclass(frozen=True)
class Group:
    """Rows (B, L) of the batch that read `places` (B, P), which lie in `slots` (B, P).

    A token reads those from `start` (B, L) below `end` (B, L).
    """

    rows: Array
    places: Array
    slots: Array
    start: Array
    end: Array

    @property
    def allowed(self) -> Array | None:
        """Whether each token reads each place: (B, L, P); None where all read all."""
        near = self.places[:, None, :]
        found = (near >= self.start[:, :, None]) & (near < self.end[:, :, None])
        return None if found.all() else found


def groups(
    arrays: Sequence[Array],
    attrs: Mapping[str, Any],
    capacity: int,
    room: Callable[[int], int] = lambda count: count,
) -> list[Group]:
    """The groups of an attention's tokens, by the arrays of their positions, sequences, table and lengths.

    The states have `capacity` slots. `room` says for how many places there is room where so many are read.
    """
    positions, sequence, table, lengths = arrays
    if len(sequence) and not 0 <= sequence.min() <= sequence.max() < len(table):
        raise BackendError(f"attention: a token of sequence {sequence.max()}; there are {len(table)}")
    start, end = reach(positions, lengths[sequence], attrs)
    block = attrs["block_size"]
    if len(sequence) and end.max() > table.shape[1] * block:
        raise BackendError(f"attention: position {end.max() - 1}; a table has {table.shape[1] * block}")
    numbers, counts = np.unique(sequence, return_counts=True)
    single = np.isin(sequence, numbers[counts == 1])
    rows = [np.flatnonzero(single)[:, None]] if single.any() else []
    rows += [np.flatnonzero(sequence == s)[None] for s in numbers[counts > 1]]
    made = [_group(each, start[each], end[each], table[sequence[each[:, 0]]], block, room) for each in rows]
    if any(group.slots.min() < 0 or group.slots.max() >= capacity for group in made):
        raise BackendError(f"attention: a table names a block beyond the {capacity // block} that there are")
    return made


def reach(positions: Array, lengths: Array, attrs: Mapping[str, Any]) -> tuple[Array, Array]:
    """The first place that each token reads, and the one behind the last."""
    window, chunk = attrs["window"], attrs.get("chunk", 0)
    start, end = np.zeros_like(positions), lengths
    if attrs["causal"]:
        end = np.minimum(end, positions + 1)
    if window:
        start, end = np.maximum(0, positions - window + 1), np.minimum(end, positions + window)
    if chunk:
        first = positions // chunk * chunk
        start, end = np.maximum(start, first), np.minimum(end, first + chunk)
    return start, end


def _group(rows: Array, start: Array, end: Array, table: Array, block: int, room: Callable[[int], int]) -> Group:
    """Of rows (B, L) whose sequences' blocks are `table` (B, blocks); places that nobody reads lie with the first."""
    low = start.min(1)
    places = low[:, None] + np.arange(room(max(1, int((end.max(1) - low).max()))))
    inside = np.minimum(places, table.shape[1] * block - 1)
    slots = np.take_along_axis(table, inside // block, 1) * block + inside % block
    return Group(rows, places, np.where(places < end.max(1)[:, None], slots, slots[:, :1]), start, end)


@dataclass(frozen=True)
class Memories:
    """The sequences of a run that have tokens, those with most first: the first row of each, how many, and its memory.

    `source` is the slot that it goes on from, below 0 for none, and `target` the one that it leaves its memory in.
    """

    first: Array
    counts: Array
    source: Array
    target: Array


def memories(sequence: Array, before: Array, after: Array, slots: int) -> Memories:
    """Those of a run over a state with so many slots."""
    numbers, first, counts = np.unique(sequence, return_index=True, return_counts=True)
    if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < len(before):
        raise BackendError(f"a token of sequence {numbers[-1]}; there are {len(before)}")
    order = np.argsort(-counts, kind="stable")
    source, target = before[numbers[order]], after[numbers[order]]
    if len(numbers) and (max(source.max(), target.max()) >= slots or target.min() < 0):
        raise BackendError(f"memory {max(source.max(), target.max())} of a state with {slots}")
    return Memories(first[order], counts[order], source, target)
