"""Ops with memory per sequence: all sequences of a run go on together, token by token where one needs the last."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from puna.backends import batches
from puna.backends.torch.blocks import Tensor
from puna.backends.torch.step import Step
from puna.backends.torch.values import State
from puna.graph.tensor import Tensor as Node


class Memories:
    """The sequences of a run that have tokens, those with most first, and where they have their memory."""

    def __init__(self, step: Step, found: batches.Memories) -> None:
        self.first, self.counts = found.first, found.counts
        self._source, self._target = step.index(np.maximum(found.source, 0)), step.index(found.target)
        self._fresh = torch.tensor(found.source < 0, device=step.device)

    def read(self, state: State) -> Tensor:
        """What each goes on from; zeros for one that is new."""
        found = state.read(self._source)
        fresh = self._fresh.reshape(-1, *[1] * (found.dim() - 1))
        return torch.where(fresh, torch.zeros_like(found), found)

    def write(self, state: State, values: Tensor) -> None:
        """What each leaves."""
        state.write(self._target, values)


def memories(step: Step, node: Node, state: State, places: tuple[Tensor, Tensor, Tensor]) -> Memories:
    """Those of a run; made once for all blocks."""
    nodes = node.inputs[-3:]

    def plan() -> Memories:
        sequence, before, after = (step.on_host(n, value) for n, value in zip(nodes, places, strict=True))
        return Memories(step, batches.memories(sequence, before, after, state.shape[0]))

    return step.once(("memories", *map(id, nodes), state.shape[0]), plan)


def causal_conv1d(
    step: Step, node: Node, state: State, x: Tensor, w: Tensor, sequence: Tensor, before: Tensor, after: Tensor
) -> Tensor:
    """Each sequence's rows behind those it left, each times its column of weights."""
    held = memories(step, node, state, (sequence, before, after))
    y, length = torch.empty_like(x), w.shape[1]
    earlier, left = held.read(state), []
    for count in sorted(set(held.counts.tolist()), reverse=True):
        some = np.flatnonzero(held.counts == count)
        rows = step.index(held.first[some, None] + np.arange(count))
        known = torch.cat((earlier[some[0] : some[-1] + 1], x[rows]), 1)  # B, L - 1 + n, D
        y[rows] = sum(known[:, j : j + count] * w[:, j] for j in range(length))
        left.append(known[:, count:])
    if left:
        held.write(state, torch.cat(left))
    return y


def recurrence(
    step: Step, node: Node, state: State, r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Any, b: Any, rates: Any,
    sequence: Tensor, before: Tensor, after: Tensor,
) -> Tensor:  # fmt: skip
    """Token after token, all heads of all sequences that have so many at once."""
    held = memories(step, node, state, (sequence, before, after))
    y = torch.empty_like(v)
    memory = held.read(state)
    kept = w if rates is None else torch.exp(w * rates)
    for j in range(int(held.counts.max(initial=0))):
        active = int(np.sum(held.counts > j))
        rows = step.index(held.first[:active] + j)
        now = memory[:active]
        changed = now * kept[rows][..., None]
        if a is not None:
            changed = changed + b[rows][..., None] * (a[rows][:, :, None] @ now)
        changed = changed + k[rows][..., None] * v[rows][:, :, None]
        y[rows] = (r[rows][:, :, None] @ changed)[:, :, 0]
        memory = torch.cat((changed, memory[active:])) if active < len(memory) else changed
    if len(held.counts):
        held.write(state, memory)
    return y
