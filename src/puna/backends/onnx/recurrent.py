"""Ops with memory per sequence: all sequences of a run go on together, token by token where one needs the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from puna.backends.onnx.values import State
from puna.backends.onnx.writing import Writer
from puna.graph.tensor import Tensor

INT64 = TensorProto.INT64


@dataclass(frozen=True)
class Memories:
    """Of each sequence: its first row and how many it has (S,) int64, and what it goes on from and leaves (S,) int32.

    `row` and `place` (T,) int64 tell each row's sequence, and which of that sequence's rows it is.
    """

    first: str
    counts: str
    source: str
    target: str
    row: str
    place: str
    size: Any

    @classmethod
    def of(cls, w: Writer, node: Tensor) -> Memories:
        """Those of a node's last three inputs; made once for all blocks."""
        sequence, source, target = node.inputs[-3:]
        names = sequence.name, source.name, target.name
        return w.once(("memories", *names), lambda: cls._made(w, node, *names))  # type: ignore[no-any-return]

    @classmethod
    def _made(cls, w: Writer, node: Tensor, sequence: str, source: str, target: str) -> Memories:
        size, rows = node.inputs[-2].shape[0], node.inputs[-3].shape[0]
        own = w("Equal", w.axes("Unsqueeze", w.upto(w.size(size)), 1), w.axes("Unsqueeze", sequence, 0))  # S, T
        counts = w("ReduceSum", w.cast(own, INT64), w.ints(1), keepdims=0)
        places = w.cast(w.upto(w.size(rows)), INT64)
        last = w("Expand", w.size(rows), w("Concat", w.size(size), w.ints(1), axis=0))
        first = w("ReduceMin", w("Concat", w("Where", own, places, w.size(rows)), last, axis=1), w.ints(1), keepdims=0)
        there = w("Greater", counts, w.constant(np.int64(0)))
        left = w("Where", there, target, w.constant(np.int32(-1)))  # a sequence without rows leaves nothing
        row = w.cast(sequence, INT64)
        return cls(first, counts, source, left, row, w("Sub", places, w("Gather", first, row)), size)

    def read(self, w: Writer, state: State) -> str:
        """What each goes on from; zeros for one that is new."""
        zero = w.constant(np.int32(0))
        fresh = w("Less", self.source, zero)
        found = state.read(w, w("Max", self.source, zero))
        fresh = w.axes("Unsqueeze", fresh, *range(1, len(state.shape)))
        return w("Where", fresh, w.constant(np.float32(0)), found)


def causal_conv1d(w: Writer, node: Tensor, state: State, x: str, weights: str, *_: str) -> tuple[str, State]:
    """Each row and those before it, from the run or from what the sequence left, each times its column of weights."""
    held, length = Memories.of(w, node), node.inputs[2].shape[1]
    earlier = held.read(w, state)  # S, L - 1, D
    total, rows = None, w.cast(w.upto(w.size(node.shape[0])), INT64)
    for back in range(length):
        place = w("Sub", held.place, w.constant(np.int64(back)))
        row = w("Sub", rows, w.constant(np.int64(back)))
        value = _known(w, length, earlier, x, held.row, place, row) if back else x
        column = w.axes("Squeeze", w.cut(weights, 1, length - 1 - back, length - back), 1)
        scaled = w("Mul", value, column)
        total = scaled if total is None else w("Add", total, scaled)
    left = []
    for j in range(length - 1):
        place = w("Add", held.counts, w.constant(np.int64(j - (length - 1))))
        sequence = w.cast(w.upto(w.size(held.size)), INT64)
        found = _known(w, length, earlier, x, sequence, place, w("Add", held.first, place))
        left.append(w.axes("Unsqueeze", found, 1))
    return str(total), state.written(w, held.target, left[0] if len(left) == 1 else w("Concat", *left, axis=1))


def _known(w: Writer, length: int, earlier: str, x: str, sequence: str, place: str, row: str) -> str:
    """The rows at `place` of sequences, counted from the first of this run; those below 0 were left by runs before."""
    zero, limit = w.constant(np.int64(0)), w.constant(np.int64(length - 1))
    new = w("GreaterOrEqual", place, zero)
    old = w("Max", w("Min", w("Add", place, limit), w.constant(np.int64(length - 2))), zero)
    pairs = w("Concat", *(w.axes("Unsqueeze", each, 1) for each in (sequence, old)), axis=1)
    padded = w("Pad", x, w.ints(0, 0, 1, 0))  # a row to name where there is none
    there = w("Gather", padded, w("Where", new, row, zero))
    return w("Where", w.axes("Unsqueeze", new, 1), there, w("GatherND", earlier, pairs))


def recurrence(
    w: Writer, node: Tensor, state: State, r: str, decay: str, k: str, v: str, a: Any, b: Any, rates: Any, *_: str
) -> tuple[str, State]:
    """Step after step: all heads of all sequences at once, those without a row are left as they are."""
    held = Memories.of(w, node)
    kept = decay if rates is None else w("Exp", w("Mul", decay, rates))
    most = w("ReduceMax", w("Concat", held.counts, w.ints(0), axis=0), w.ints(0), keepdims=1)
    heads, size = node.shape[1:]

    def step(inner: Writer, j: str, memory: str) -> tuple[list[str], list[Any]]:
        active = inner("Less", j, held.counts)
        rows = inner("Where", active, inner("Add", held.first, j), inner.constant(np.int64(0)))

        def now(x: str, axis: int) -> str:
            return inner.axes("Unsqueeze", inner("Gather", x, rows), axis)

        changed = inner("Mul", memory, now(kept, 3))
        if a is not None:
            changed = inner("Add", changed, inner("Mul", now(b, 3), inner("MatMul", now(a, 2), memory)))
        changed = inner("Add", changed, inner("Mul", now(k, 3), now(v, 2)))
        y = inner.axes("Squeeze", inner("MatMul", now(r, 2), changed), 2)
        after = inner("Where", inner.axes("Unsqueeze", active, 1, 2, 3), changed, memory)
        return [after], [(y, TensorProto.FLOAT, ["sequences", heads, size])]

    given = (held.read(w, state), ("memory", TensorProto.FLOAT, None))
    memory, steps = w.loop(most, [given], step)
    pairs = w("Concat", *(w.axes("Unsqueeze", each, 1) for each in (held.place, held.row)), axis=1)
    return w("GatherND", steps, pairs), state.written(w, held.target, memory)
