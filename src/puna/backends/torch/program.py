"""A compiled program: nodes in order, each a function of values on the device, let go after their last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from puna.backends.base import Array, Bounds, Inputs, Memory
from puna.backends.torch.attention import attention
from puna.backends.torch.blocks import Tensor
from puna.backends.torch.compiling import OPS as COMPILED
from puna.backends.torch.compiling import compiled
from puna.backends.torch.ops import FUNCTIONS
from puna.backends.torch.recurrent import causal_conv1d, recurrence
from puna.backends.torch.step import Step
from puna.backends.torch.values import State, values_of
from puna.backends.torch.weights import Weights, matrices
from puna.backends.walk import Walk
from puna.errors import BackendError
from puna.graph.ops import OPS
from puna.graph.tensor import Dim, concrete
from puna.graph.tensor import Tensor as Node

Run = Callable[..., Any]
WHOLE: dict[str, Run] = {"attention": attention, "causal_conv1d": causal_conv1d, "recurrence": recurrence}
"""Ops that look at a whole step: called with it and their node."""
STATED = ("write", "take", "dequantize")
"""Other ops that take a state as it is."""


class Program:
    """Runs a graph on one device; keeps its states. `kept` are those that other programs may share."""

    def __init__(
        self, outputs: Sequence[Node], writes: Sequence[Node], weights: Weights, bounds: Bounds, device: torch.device,
        others: Mapping[str, State], fewer: bool = False,
    ) -> None:  # fmt: skip
        self._device, self._outputs = device, outputs
        self._name = f"backend 'torch:{device}'"
        self._walk = walk = Walk(outputs, writes, bounds)
        own = [n for n in walk.leaves("state") if n.name not in others]
        self.memory = Memory(walk.arena, sum(n.dtype.nbytes(concrete(n.shape, {})) for n in own))
        needed = self.memory.arena + self.memory.states
        found = weights.take(walk.leaves("weight"), matrices(walk.order), needed)
        self._own = {n.name: State(n.dtype, concrete(n.shape, {}), device) for n in own}
        self.kept = {**others, **self._own}
        self.layout = f"torch {device.type}"
        self._fixed: list[Any] = [None] * len(walk.order)
        for node in walk.order:
            if node.op in LEAVES:
                self._fixed[walk.place[node]] = LEAVES[node.op](self, node, found)
        self._steps = self._compiled(fewer)

    def _compiled(self, fewer: bool) -> list[tuple[Node, Run, list[int | None], int, list[int]]]:
        """Of each node: its function, where its inputs are, where it goes, and what nobody reads from then on."""
        place, dying = self._walk.place, self._walk.dying()
        return [
            (
                n,
                function_of(n, fewer),
                [None if i is None else place[i] for i in n.inputs],
                place[n],
                [place[dead] for dead in dying.get(n, ())],
            )
            for n in self._walk.order
            if not OPS[n.op].leaf
        ]

    @property
    def states(self) -> list[Array]:
        """What states hold, in the type that they are kept in."""
        return [kept.data[:-1].cpu().numpy() for kept in self._own.values()]

    def fetch(self, name: str, size: int, units: Sequence[int]) -> Array:
        """What a state has in some units: see puna.backends.base.Portable."""
        found: Array = self._units(name, size)[list(units)].cpu().numpy()
        return found.view(np.uint8)[None]

    def put(self, name: str, size: int, units: Sequence[int], data: Array) -> None:
        """Leave what was fetched in a state's units."""
        there = self._units(name, size)
        values = np.ascontiguousarray(data[0]).reshape(-1).view(there[:0].cpu().numpy().dtype)
        there[list(units)] = torch.tensor(values, device=self._device).reshape(len(units), -1)

    def _units(self, name: str, size: int) -> Any:
        data = self.kept[name].data[:-1]
        return data.view(len(data) // size, -1)

    def run(self, inputs: Inputs) -> list[Array]:
        """Every node in turn."""
        given, sizes = self._walk.checked(inputs)
        with torch.inference_mode():
            values = self._computed(Step(self._device, sizes, given), given)
            return [_array(values[self._walk.place[o]]) for o in self._outputs]

    def _computed(self, step: Step, given: Mapping[str, Array]) -> list[Any]:
        """Values by place, as far as they are kept."""
        values = list(self._fixed)
        for node in self._walk.leaves("input"):
            values[self._walk.place[node]] = torch.tensor(given[node.name], device=self._device)
        for node, function, sources, place, dead in self._steps:
            try:
                values[place] = function(step, *[None if i is None else values[i] for i in sources])
            except (RuntimeError, IndexError) as error:
                raise BackendError(f"{self._name}: {node!r}: {str(error).splitlines()[0]}") from error
            for i in dead:
                values[i] = None
        return values


LEAVES: dict[str, Callable[[Program, Node, Mapping[str, Any]], Any]] = {
    "weight": lambda program, node, found: found[node.name],
    "state": lambda program, node, found: program.kept[node.name],
    "constant": lambda program, node, found: torch.tensor(node.attrs["value"], device=program._device),
}


def function_of(node: Node, fewer: bool = False) -> Run:
    """What computes a node, given the step and its inputs' values; of `fewer` kernels by torch.compile."""
    attrs = {k: v for k, v in node.attrs.items() if k != "name"}
    if node.op in WHOLE:
        return partial(_whole, WHOLE[node.op], node)
    if node.op == "iota":
        return lambda step: torch.arange(*concrete(node.shape, step.sizes), dtype=torch.int32, device=step.device)
    function = compiled(FUNCTIONS[node.op]) if fewer and node.op in COMPILED else FUNCTIONS[node.op]
    if any(isinstance(d, Dim) for d in attrs.get("shape", ())):
        return lambda step, x: function(x, shape=concrete(node.shape, step.sizes))
    if node.op not in STATED and any(s.op in ("state", "write") for s in node.sources):
        return lambda step, *values: function(*(v.values() if isinstance(v, State) else v for v in values), **attrs)
    return lambda step, *values: function(*values, **attrs)


def _whole(function: Run, node: Node, step: Step, *values: Any) -> Any:
    return function(step, node, *values)


def _array(value: Tensor | State) -> Array:
    """A value on the host."""
    found = values_of(value) if isinstance(value, State) else value
    return np.asarray(found.cpu().numpy(), order="C")
