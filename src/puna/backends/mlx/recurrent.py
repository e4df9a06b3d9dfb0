"""Ops with memory per sequence: all sequences of a run go on together, token by token where one needs the last."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from puna.backends import batches
from puna.backends.mlx.values import Array, State
from puna.backends.walk import Step
from puna.graph.tensor import Tensor as Node


def memories(step: Step, node: Node, state: State, places: tuple[Array, Array, Array]) -> batches.Memories:
    """Those of a run; made once for all blocks."""
    nodes = node.inputs[-3:]

    def found() -> batches.Memories:
        sequence, before, after = (step.on_host(n, value) for n, value in zip(nodes, places, strict=True))
        return batches.memories(sequence, before, after, state.shape[0])

    return step.once(("memories", *map(id, nodes), state.shape[0]), found)


def read(held: batches.Memories, state: State) -> Array:
    """What each goes on from; zeros for one that is new."""
    found = state.read(mx.array(np.maximum(held.source, 0)))
    fresh = mx.array(held.source < 0).reshape(-1, *[1] * (found.ndim - 1))
    return mx.where(fresh, 0.0, found.astype(mx.float32))


def causal_conv1d(
    step: Step, node: Node, state: State, x: Array, w: Array, sequence: Array, before: Array, after: Array
) -> Array:
    """Each sequence's rows behind those it left, each times its column of weights."""
    held = memories(step, node, state, (sequence, before, after))
    y, length, left = mx.zeros_like(x), w.shape[1], []
    earlier = read(held, state)
    for count in sorted(set(held.counts.tolist()), reverse=True):
        some = np.flatnonzero(held.counts == count)
        rows = mx.array(held.first[some, None] + np.arange(count))
        known = mx.concatenate((earlier[some[0].item() : some[-1].item() + 1], x[rows]), 1)  # B, L - 1 + n, D
        y[rows] = sum(known[:, j : j + count] * w[:, j] for j in range(length))
        left.append(known[:, count:])
    if left:
        state.write(mx.array(held.target), mx.concatenate(left))
    return y


def recurrence(
    step: Step, node: Node, state: State, r: Array, w: Array, k: Array, v: Array, a: Any, b: Any, rates: Any,
    sequence: Array, before: Array, after: Array,
) -> Array:  # fmt: skip
    """Token after token, all heads of all sequences that have so many at once."""
    held = memories(step, node, state, (sequence, before, after))
    y, memory = mx.zeros_like(v), read(held, state)
    kept = w if rates is None else mx.exp(w * rates)
    for j in range(int(held.counts.max(initial=0))):
        active = int(np.sum(held.counts > j))
        rows, now = mx.array(held.first[:active] + j), memory[:active]
        changed = now * kept[rows][..., None]
        if a is not None:
            changed = changed + b[rows][..., None] * (a[rows][:, :, None] @ now)
        changed = changed + k[rows][..., None] * v[rows][:, :, None]
        y[rows] = (r[rows][:, :, None] @ changed)[:, :, 0]
        memory = mx.concatenate((changed, memory[active:])) if active < len(memory) else changed
    if len(held.counts):
        state.write(mx.array(held.target), memory)
    return y
