"""A compiled program: nodes in order, each a function of MLX's arrays; MLX computes them when the run ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from shutil import which
from typing import Any

import mlx.core as mx
import numpy as np

from puna.backends.base import Array, Bounds, Inputs, Memory
from puna.backends.mlx.attention import attention
from puna.backends.mlx.ops import FUNCTIONS, PLAIN
from puna.backends.mlx.recurrent import causal_conv1d, recurrence
from puna.backends.mlx.segments import Segment, segmented
from puna.backends.mlx.values import State, values_of
from puna.backends.mlx.weights import Weights
from puna.backends.walk import Step, Walk
from puna.errors import BackendError
from puna.graph.tensor import Dim, concrete
from puna.graph.tensor import Tensor as Node

Run = Callable[..., Any]
WHOLE: dict[str, Run] = {"attention": attention, "causal_conv1d": causal_conv1d, "recurrence": recurrence}
"""Ops that look at a whole run: called with it and their node."""
STATED = ("write", "take", "dequantize")
"""Other ops that take a state as it is."""


class Program:
    """Runs a graph on one device; keeps its states, those of `others` with their programs."""

    def __init__(
        self, outputs: Sequence[Node], writes: Sequence[Node], weights: Weights, bounds: Bounds, device: mx.Device,
        others: Mapping[str, State],
    ) -> None:  # fmt: skip
        self._device, self._outputs = device, outputs
        self.layout = f"mlx {device.type}"
        self._walk = walk = Walk(outputs, writes, bounds)
        own = [n for n in walk.leaves("state") if n.name not in others]
        self.memory = Memory(walk.arena, sum(n.dtype.nbytes(concrete(n.shape, {})) for n in own))
        with mx.stream(device):
            found = weights.take(walk.leaves("weight"), self.memory.arena + self.memory.states)
            self._own = {n.name: State(n.dtype, concrete(n.shape, {})) for n in own}
            self.kept = {**others, **self._own}
            self._fixed: dict[Node, Any] = {n: found[n.name] for n in walk.leaves("weight")}
            self._fixed |= {n: self.kept[n.name] for n in walk.leaves("state")}
            self._fixed |= {n: mx.array(n.attrs["value"]) for n in walk.leaves("constant")}
        self._steps = [(n, function_of(n)) for n in walk.order if n not in self._fixed and n.op != "input"]
        self._compiles = device.type == mx.gpu or which("g++") is not None  # which MLX calls for processors
        self._segments = segmented(self._steps, _alone, self._fixed, outputs)
        self._dying = walk.dying()

    @property
    def states(self) -> list[Array]:
        """What states hold, in the type that they are kept in."""
        return [np.array(kept.data[:-1]) for kept in self._own.values()]

    def fetch(self, name: str, size: int, units: Sequence[int]) -> Array:
        """What a state has in some units: see puna.backends.base.Portable."""
        return np.array(self._units(name, size)[mx.array(units)].view(mx.uint8))[None]

    def put(self, name: str, size: int, units: Sequence[int], data: Array) -> None:
        """Leave what was fetched in a state's units."""
        state = self.kept[name]
        there, rows = self._units(name, size), np.ascontiguousarray(data[0]).reshape(len(units), -1)
        there[mx.array(units)] = mx.array(rows).view(state.data.dtype)
        state.data = mx.concatenate((there.reshape(-1, *state.data.shape[1:]), state.data[-1:]))

    def _units(self, name: str, size: int) -> Any:
        data = self.kept[name].data[:-1]
        return data.reshape(len(data) // size, -1)

    def run(self, inputs: Inputs) -> list[Array]:
        """Every node in turn."""
        given, sizes = self._walk.checked(inputs)
        with mx.stream(self._device):
            try:
                found = self._computed(Step(sizes, given), given)
                mx.eval(found, [kept.data for kept in self.kept.values()])
            except (RuntimeError, ValueError, IndexError) as error:
                raise BackendError(f"backend 'mlx': {str(error).splitlines()[0]}") from error
            return [np.array(value) for value in found]

    def _computed(self, step: Step, given: Mapping[str, Array]) -> list[Any]:
        """The outputs; what is read no more is let go of on the way."""
        values = self._fixed | {n: mx.array(given[n.name]) for n in self._walk.leaves("input")}
        empty = 0 in step.sizes.values()  # MLX has no products of nothing
        if self._compiles and not empty and _decodes(step.sizes):
            return self._compiled(step, values)
        for node, function in self._steps:
            if empty and node.op != "write" and 0 in concrete(node.shape, step.sizes):
                values[node] = mx.zeros(concrete(node.shape, step.sizes), PLAIN[node.dtype])
            else:
                values[node] = function(step, *[None if i is None else values[i] for i in node.inputs])
            for dead in self._dying.get(node, ()):
                del values[dead]
        return self._found(values)

    def _compiled(self, step: Step, values: dict[Node, Any]) -> list[Any]:
        """The same, by compiled functions where there can be."""
        for part in self._segments:
            if isinstance(part, Segment):
                part.run(step, values)
            else:
                node, function = part
                values[node] = function(step, *[None if i is None else values[i] for i in node.inputs])
        return self._found(values)

    def _found(self, values: Mapping[Node, Any]) -> list[Any]:
        return [values_of(values[n]) if isinstance(values[n], State) else values[n] for n in self._outputs]


def _alone(node: Node) -> bool:
    """Whether a node looks at the run or at states, or reads nothing that would tell its size."""
    stated = any(source.op in ("state", "write") for source in node.sources)
    return node.op in WHOLE or node.op == "write" or stated or not node.sources


def _decodes(sizes: Mapping[str, int]) -> bool:
    """Whether a run has no more tokens than sequences."""
    return 0 < sizes.get("T", 0) <= sizes.get("S", 0)


def function_of(node: Node) -> Run:
    """What computes a node, given the run and its inputs' values."""
    attrs = {k: v for k, v in node.attrs.items() if k != "name"}
    if node.op in WHOLE:
        return lambda step, *values: WHOLE[node.op](step, node, *values)
    if node.op == "iota":
        return lambda step: mx.arange(*concrete(node.shape, step.sizes), dtype=mx.int32)
    function = partial(FUNCTIONS[node.op], **attrs)
    if any(isinstance(d, Dim) for d in attrs.get("shape", ())):
        return lambda step, x: FUNCTIONS[node.op](x, shape=concrete(node.shape, step.sizes))
    if node.op not in STATED and any(s.op in ("state", "write") for s in node.sources):
        return lambda step, *values: function(*(v.values() if isinstance(v, State) else v for v in values))
    return lambda step, *values: function(*values)
