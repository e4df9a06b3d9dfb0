"""A graph as a backend walks it that computes node after node: the order, when a value is read last, checked inputs.

It knows no library: what a node's value is, and what computes it, is the backend's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from puna.backends.base import Array, Bounds, Inputs
from puna.errors import BackendError
from puna.graph.ops import OPS
from puna.graph.plan import Life, plan
from puna.graph.tensor import Dim, Tensor, concrete, topological


class Walk:
    """The nodes that outputs and writes need, in order."""

    def __init__(self, outputs: Sequence[Tensor], writes: Sequence[Tensor], bounds: Bounds) -> None:
        self.order = topological([*outputs, *writes])
        self.place = {node: i for i, node in enumerate(self.order)}
        self._bounds = bounds.sizes()
        last = dict(self.place) | {output: len(self.order) for output in outputs}
        for node in self.order:
            for source in node.sources:
                last[source] = max(last[source], self.place[node])
        values = [n for n in self.order if not OPS[n.op].leaf and n.op != "write"]
        self._lives = [Life(n, n.dtype.nbytes(concrete(n.shape, self._bounds)), self.place[n], last[n]) for n in values]

    def leaves(self, op: str) -> list[Tensor]:
        """Its inputs, weights, states or constants."""
        return [node for node in self.order if node.op == op]

    @property
    def arena(self) -> int:
        """Bytes that its values need at most, each as long as it is read."""
        return plan(self._lives).size

    def dying(self) -> dict[Tensor, list[Tensor]]:
        """Of nodes, the values that nobody reads after them."""
        found: dict[Tensor, list[Tensor]] = {}
        for life in self._lives:
            if life.last < len(self.order):
                found.setdefault(self.order[life.last], []).append(life.value)
        return found

    def checked(self, inputs: Inputs) -> tuple[dict[str, Array], dict[str, int]]:
        """The arrays that it reads, and the sizes of symbols; BackendError for one that does not fit."""
        sizes: dict[str, int] = {}
        return {node.name: self._fitting(node, inputs[node.name], sizes) for node in self.leaves("input")}, sizes

    def _fitting(self, node: Tensor, given: Array, sizes: dict[str, int]) -> Array:
        array = np.asarray(given, node.dtype.numpy)
        if len(array.shape) == len(node.shape):
            for dim, size in zip(node.shape, array.shape, strict=True):
                expected = sizes.setdefault(dim.name, size) if isinstance(dim, Dim) else dim
                if size != expected or (isinstance(dim, Dim) and size > self._bounds[dim.name]):
                    break
            else:
                return array
        raise BackendError(f"input '{node.name}': shape {array.shape} does not fit {node.shape} within {self._bounds}")
