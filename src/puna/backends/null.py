"""The null backend: builds, lowers and plans like a real one, and computes nothing; its outputs are zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from puna.backends.base import Array, Bounds, Inputs, Memory, Progress
from puna.backends.selection import best
from puna.dtypes import Stored
from puna.errors import BackendError
from puna.graph.lower import lower
from puna.graph.ops import OPS
from puna.graph.plan import Life, plan
from puna.graph.tensor import Dim, Tensor, concrete, topological


class Weights:
    """The names that were loaded; no bytes are read."""

    nbytes = 0

    def __init__(self, stored: Mapping[str, Stored], beside: Weights | None) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {name: tensor.shape for name, tensor in stored.items()}
        if beside is not None:
            self.shapes |= beside.shapes

    def finish(self) -> None:
        """Nothing is under way."""


class Program:
    """A lowered and planned graph."""

    states: tuple[Array, ...] = ()
    """It has none: nothing is computed."""

    def __init__(
        self, outputs: Sequence[Tensor], weights: Weights, bounds: Bounds, writes: Sequence[Tensor], others: set[str]
    ) -> None:
        lowered = lower([*outputs, *writes], lambda node: True, "null")
        self.outputs = lowered[: len(outputs)]
        self.order = topological(lowered)
        self._sizes = bounds.sizes()
        for node in self.order:
            if node.op == "weight" and weights.shapes.get(node.name) != node.shape:
                raise BackendError(f"backend 'null': weight '{node.name}' of shape {node.shape} was not loaded")
        own = [n for n in self.order if n.op == "state" and n.name not in others]
        self.kept = {n.name for n in own} | others
        self.memory = Memory(plan(self._lives()).size, sum(map(self._nbytes, own)))

    def _nbytes(self, node: Tensor) -> int:
        return node.dtype.nbytes(concrete(node.shape, self._sizes))

    def _lives(self) -> list[Life[Tensor]]:
        step = {node: i for i, node in enumerate(self.order)}
        last = dict(step) | {o: len(self.order) for o in self.outputs}
        for node in self.order:
            for source in node.sources:
                last[source] = max(last[source], step[node])
        values = [n for n in self.order if not OPS[n.op].leaf and n.op != "write"]
        return [Life(n, self._nbytes(n), step[n], last[n]) for n in values]

    def run(self, inputs: Inputs) -> list[Array]:
        """Zeros of the outputs' shapes, symbols taken from the inputs' shapes."""
        sizes: dict[str, int] = {}
        for node in (n for n in self.order if n.op == "input"):
            dims = zip(node.shape, inputs[node.name].shape, strict=True)
            sizes |= {d.name: n for d, n in dims if isinstance(d, Dim)}
        return [np.zeros(concrete(o.shape, sizes), o.dtype.numpy) for o in self.outputs]


class NullBackend:
    """Accepts every op."""

    name = "null"
    best = staticmethod(best)

    def supports(self, node: Tensor) -> bool:
        """All of them."""
        return True

    def load(
        self, weights: Mapping[str, Stored], progress: Progress | None = None, *, beside: Weights | None = None
    ) -> Weights:
        """Notes names and shapes."""
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
        """Lowers and plans."""
        return Program(outputs, weights, bounds, writes, beside.kept if beside else set())


def open_backend(threads: int | None = None) -> NullBackend:
    """The backend."""
    return NullBackend()
