"""A graph as a backend walks it that computes node after node: the order, when a value is read last, checked inputs.

It knows no library: what a node's value is, and what computes it, is the backend's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from puna.backends.base import Array, Bounds, Inputs
from puna.errors import BackendError
from puna.graph.ops import OPS
from puna.graph.plan import Life, plan
from puna.graph.tensor import Dim, Tensor, concrete, topological

Found = TypeVar("Found")

NAMES = {"take": (0, 1, 0), "embedding": (1, 0, 0), "write": (0, 1, -(1 << 31))}
"""Ops with rows that an index names: which inputs these are, and the least index."""


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
        self._named = [each for node in self.order if (each := _named_by_input(node))]
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
        """The arrays that it reads, and the sizes of symbols.

        BackendError for one that does not fit, or that names a row which is not there: a library may look outside.
        """
        sizes: dict[str, int] = {}
        given = {node.name: self._fitting(node, inputs[node.name], sizes) for node in self.leaves("input")}
        for node, name, least, most in self._named:
            if given[name].size and not least <= given[name].min() <= given[name].max() < most:
                raise BackendError(f"{node!r}: an index of '{name}' lies outside of {least} to {most - 1}")
        return given, sizes

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


def _named_by_input(node: Tensor) -> tuple[Tensor, str, int, int] | None:
    """A node whose rows an input names: that input, the least index that works, and the first that does not."""
    if node.op not in NAMES:
        return None
    rows, index, least = NAMES[node.op]
    size, given = node.inputs[rows].shape[0], node.inputs[index]
    return (node, given.name, least, size) if given.op == "input" and isinstance(size, int) else None


class Step:
    """What every node of one run may ask for: the sizes of symbols, what is on the host, what was worked out once."""

    def __init__(
        self, sizes: Mapping[str, int], given: Mapping[str, Array], fetch: Callable[[Any], Array] = np.asarray
    ) -> None:
        self.sizes = sizes
        self._given = given
        self._fetch = fetch
        self._known: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Found]) -> Found:
        """What `make` gives, made once a run for each key."""
        if key not in self._known:
            self._known[key] = make()
        found: Found = self._known[key]
        return found

    def on_host(self, node: Tensor, value: Any) -> Array:
        """The array of a node that says where things lie; inputs and constants are not fetched from a device."""
        if node.op == "input":
            return self._given[node.name]
        if node.op == "constant":
            return np.asarray(node.attrs["value"])
        return self.once(("host", node), lambda: self._fetch(value))
