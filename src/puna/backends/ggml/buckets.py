"""Sizes rounded up, so that few graphs do for many runs: rows are repeated, and nothing that these make is kept."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import numpy as np

from puna.backends.base import Array
from puna.backends.walk import Walk
from puna.graph.tensor import Dim
from puna.graph.tensor import Tensor as Node

STEP = 64
"""Above this, sizes are multiples of it; below, powers of two."""
ALONG = ("sum", "max")
REMEMBERING = ("causal_conv1d", "recurrence")


class Buckets:
    """What is done with a graph's inputs and outputs; nothing where rows depend on each other."""

    def __init__(self, walk: Walk, bounds: Mapping[str, int]) -> None:
        writes = [node.inputs[1] for node in walk.order if node.op == "write"]
        self._slots = {node.name for node in writes}
        self._inputs, self._bounds = walk.leaves("input"), bounds
        self._able = all(node.op == "input" for node in writes) and not any(map(_mixes, walk.order))

    def rounded(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The sizes that a run is given room for."""
        if not self._able:
            return dict(sizes)
        return {name: min(roomy(size), self._bounds[name]) for name, size in sizes.items()}

    def filled(self, given: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """Inputs with their last row repeated up to `sizes`; of places to write to, with none."""
        return {node.name: self._filled(node, given[node.name], sizes) for node in self._inputs}

    def _filled(self, node: Node, array: Array, sizes: Mapping[str, int]) -> Array:
        for axis, dim in enumerate(node.shape):
            more = sizes[dim.name] - array.shape[axis] if isinstance(dim, Dim) else 0
            if more:
                last = np.take(array, [-1], axis)
                rows = np.repeat(np.full_like(last, -1) if node.name in self._slots else last, more, axis)
                array = np.concatenate((array, rows), axis)
        return array

    @staticmethod
    def cut(node: Node, array: Array, sizes: Mapping[str, int]) -> Array:
        """An output without the rows that nobody asked for."""
        return array[tuple(slice(sizes[d.name]) if isinstance(d, Dim) else slice(None) for d in node.shape)]


def roomy(size: int) -> int:
    """A size, rounded up."""
    return -(-size // STEP) * STEP if size > STEP else 1 << (size - 1).bit_length() if size else 0


def _mixes(node: Node) -> bool:
    """Whether rows of a symbolic axis go into each other."""
    if node.op in ALONG:
        return isinstance(node.inputs[0].shape[node.attrs["axis"]], Dim)
    if node.op == "matmul":
        return isinstance(node.inputs[0].shape[-1], Dim)
    if node.op == "take":
        return isinstance(node.inputs[0].shape[0], Dim) and node.inputs[1].op != "input"
    return node.op in REMEMBERING or (any(isinstance(d, Dim) for d in chain(node.shape[-1:])) and node.op == "softmax")
