"""The numpy backend: every op as puna.backends.definition has it. Works wherever NumPy does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from puna.backends.base import Array, Bounds, Inputs, Memory, Progress
from puna.backends.definition import FUNCTIONS, evaluate
from puna.backends.selection import best
from puna.dtypes import Stored
from puna.errors import BackendError
from puna.graph.lower import lower
from puna.graph.ops import OPS
from puna.graph.tensor import Dim, Tensor, concrete, topological


class Weights:
    """Stored tensors, turned into float32 arrays when first used."""

    def __init__(self, stored: Mapping[str, Stored], beside: Weights | None) -> None:
        self._stored = stored
        self._beside = beside
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if self._beside is not None and name not in self._stored:
            return self._beside[name]
        if name not in self._arrays:
            if name not in self._stored:
                raise BackendError(f"backend 'numpy': weight '{name}' was not loaded")
            self._arrays[name] = self._stored[name].numpy()
        return self._arrays[name]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays made so far."""
        return sum(a.nbytes for a in self._arrays.values())

    def finish(self) -> None:
        """Nothing is under way."""


class Program:
    """Runs the nodes in order, keeping every value until the end."""

    def __init__(
        self,
        outputs: Sequence[Tensor],
        weights: Weights,
        bounds: Bounds,
        writes: Sequence[Tensor],
        others: Mapping[str, Array],
    ) -> None:
        lowered = lower([*outputs, *writes], supports, "numpy", evaluate)
        self._outputs = lowered[: len(outputs)]
        self._order = topological(lowered)
        self._weights = weights
        self._bounds = bounds.sizes()
        states = [n for n in self._order if n.op == "state"]
        self._own = {n.name: np.zeros(concrete(n.shape, {}), np.float32) for n in states if n.name not in others}
        self.kept = {**others, **self._own}
        self.layout = "numpy"

    @cached_property
    def memory(self) -> Memory:
        """The arena holds every value at the bounds: nothing is reused."""
        values = (n for n in self._order if not OPS[n.op].leaf)
        arena = sum(n.dtype.nbytes(concrete(n.shape, self._bounds)) for n in values if n.op != "write")
        return Memory(arena, sum(s.nbytes for s in self._own.values()))

    @property
    def states(self) -> list[Array]:
        """The values of each state."""
        return list(self._own.values())

    def fetch(self, name: str, size: int, units: Sequence[int]) -> Array:
        """What a state has in some units: see puna.backends.base.Portable."""
        return self._units(name, size)[:, units]

    def put(self, name: str, size: int, units: Sequence[int], data: Array) -> None:
        """Leave what was fetched in a state's units."""
        self._units(name, size)[:, units] = data

    def _units(self, name: str, size: int) -> Array:
        state = self.kept[name]
        return state.reshape(1, len(state) // size, -1).view(np.uint8)

    def run(self, inputs: Inputs) -> list[Array]:
        """Every node in turn."""
        sizes: dict[str, int] = {}
        values: dict[Tensor, Array] = {}
        for node in self._order:
            if node.op == "input":
                values[node] = self._input(node, inputs, sizes)
        for node in self._order:
            if node.op in LEAVES:
                values[node] = LEAVES[node.op](self, node)
            elif node.op != "input":
                arrays = [None if i is None else values[i] for i in node.inputs]
                values[node] = evaluate(node, arrays, sizes)
        return [values[o] for o in self._outputs]

    def _input(self, node: Tensor, inputs: Inputs, sizes: dict[str, int]) -> Array:
        array = np.asarray(inputs[node.name], node.dtype.numpy)
        for dim, size in zip(node.shape, array.shape, strict=True):
            expected = sizes.setdefault(dim.name, size) if isinstance(dim, Dim) else dim
            limit = self._bounds[dim.name] if isinstance(dim, Dim) else dim
            if size != expected or size > limit:
                raise BackendError(
                    f"input '{node.name}': shape {array.shape} does not fit {node.shape} within {self._bounds}"
                )
        return array


LEAVES: dict[str, Callable[[Program, Tensor], Array]] = {
    "weight": lambda program, node: program._weights[node.name],
    "state": lambda program, node: program.kept[node.name],
    "constant": lambda program, node: node.attrs["value"],
}


def supports(node: Tensor) -> bool:
    """All ops, of one process."""
    return node.attrs["count"] == 1 if node.op == "all_reduce" else node.op in FUNCTIONS or node.op in ("cast", "write")


class NumpyBackend:
    """Runs every op of the table."""

    name = "numpy"
    best = staticmethod(best)

    def supports(self, node: Tensor) -> bool:
        """All of them, of one process."""
        return supports(node)

    def load(
        self, weights: Mapping[str, Stored], progress: Progress | None = None, *, beside: Weights | None = None
    ) -> Weights:
        """Keeps the handles; arrays are made when first used."""
        return Weights(weights, beside)

    def compile(
        self,
        outputs: Sequence[Tensor],
        weights: Weights,
        bounds: Bounds,
        *,
        writes: Sequence[Tensor] = (),
        beside: Program | None = None,
    ) -> Program:
        """Lowers the graph; nothing else needs to be prepared."""
        return Program(outputs, weights, bounds, writes, beside.kept if beside else {})


def open_backend(threads: int | None = None) -> NumpyBackend:
    """The backend; NumPy's BLAS chooses its own threads."""
    return NumpyBackend()
