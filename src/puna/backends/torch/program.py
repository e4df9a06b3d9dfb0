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
from puna.errors import BackendError
from puna.graph.ops import OPS
from puna.graph.plan import Life, plan
from puna.graph.tensor import Dim, concrete, topological
from puna.graph.tensor import Tensor as Node

Run = Callable[..., Any]
WHOLE: dict[str, Run] = {"attention": attention, "causal_conv1d": causal_conv1d, "recurrence": recurrence}
"""Ops that look at a whole step: called with it and their node."""
NAMES = {"take": (0, 1, 0), "embedding": (1, 0, 0), "write": (0, 1, -(1 << 31))}
"""Ops with rows that an index names: which inputs these are, and the least index."""
STATED = ("write", "take", "dequantize")
"""Other ops that take a state as it is."""


class Program:
    """Runs a graph on one device; keeps its states. `kept` are those that other programs may share."""

    def __init__(
        self, outputs: Sequence[Node], writes: Sequence[Node], weights: Weights, bounds: Bounds, device: torch.device,
        others: Mapping[str, State], fewer: bool = False,
    ) -> None:  # fmt: skip
        self._device, self._bounds = device, bounds.sizes()
        self._name = f"backend 'torch:{device}'"
        self._order = topological([*outputs, *writes])
        self._outputs = outputs
        self._inputs = [n for n in self._order if n.op == "input"]
        own = [n for n in self._order if n.op == "state" and n.name not in others]
        size = sum(n.dtype.nbytes(concrete(n.shape, {})) for n in own)
        self.memory = Memory(plan(self._lives()).size, size)
        leaves = [n for n in self._order if n.op == "weight"]
        found = weights.take(leaves, matrices(self._order), self.memory.arena + size)
        self._own = {n.name: State(n.dtype, concrete(n.shape, {}), device) for n in own}
        self.kept = {**others, **self._own}
        self.layout = f"torch {device.type}"
        self._place = {node: i for i, node in enumerate(self._order)}
        self._fixed: list[Any] = [None] * len(self._order)
        for node in self._order:
            if node.op in LEAVES:
                self._fixed[self._place[node]] = LEAVES[node.op](self, node, found)
        self._steps = self._compiled(fewer)
        self._named = [each for node in self._order if (each := named_by_input(node))]

    def _lives(self) -> list[Life[Node]]:
        step = {node: i for i, node in enumerate(self._order)}
        last = dict(step) | {o: len(self._order) for o in self._outputs}
        for node in self._order:
            for source in node.sources:
                last[source] = max(last[source], step[node])
        values = [n for n in self._order if not OPS[n.op].leaf and n.op != "write"]
        return [Life(n, n.dtype.nbytes(concrete(n.shape, self._bounds)), step[n], last[n]) for n in values]

    def _compiled(self, fewer: bool) -> list[tuple[Node, Run, list[int | None], int, list[int]]]:
        """Of each node: its function, where its inputs are, where it goes, and what nobody reads from then on."""
        places, ends = self._place, {life.value: life.last for life in self._lives()}
        dying: dict[int, list[int]] = {}
        for node, last in ends.items():
            dying.setdefault(last, []).append(places[node])
        nodes = [n for n in self._order if not OPS[n.op].leaf]
        return [
            (
                n,
                function_of(n, fewer),
                [None if i is None else places[i] for i in n.inputs],
                places[n],
                dying.get(places[n], []),
            )
            for n in nodes
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
        sizes: dict[str, int] = {}
        given = {n.name: self._checked(n, inputs[n.name], sizes) for n in self._inputs}
        for node, name, least, most in self._named:  # a GPU that looks outside is of no use afterwards
            if given[name].size and not least <= given[name].min() <= given[name].max() < most:
                wrong = f"an index of '{name}' lies outside of {least} to {most - 1}"
                raise BackendError(f"{self._name}: {node!r}: {wrong}")
        with torch.inference_mode():
            values = self._computed(Step(self._device, sizes, given), given)
            return [_array(values[self._place[o]]) for o in self._outputs]

    def _computed(self, step: Step, given: Mapping[str, Array]) -> list[Any]:
        """Values by place, as far as they are kept."""
        values = list(self._fixed)
        for node in self._inputs:
            values[self._place[node]] = torch.tensor(given[node.name], device=self._device)
        for node, function, sources, place, dead in self._steps:
            try:
                values[place] = function(step, *[None if i is None else values[i] for i in sources])
            except (RuntimeError, IndexError) as error:
                raise BackendError(f"{self._name}: {node!r}: {str(error).splitlines()[0]}") from error
            for i in dead:
                values[i] = None
        return values

    def _checked(self, node: Node, array: Array, sizes: dict[str, int]) -> Array:
        array = np.asarray(array, node.dtype.numpy)
        if len(array.shape) == len(node.shape):
            for dim, size in zip(node.shape, array.shape, strict=True):
                expected = sizes.setdefault(dim.name, size) if isinstance(dim, Dim) else dim
                if size != expected or (isinstance(dim, Dim) and size > self._bounds[dim.name]):
                    break
            else:
                return array
        raise BackendError(f"input '{node.name}': shape {array.shape} does not fit {node.shape} within {self._bounds}")


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


def named_by_input(node: Node) -> tuple[Node, str, int, int] | None:
    """A node whose rows an input names: that input, the least index that works, and the first that does not."""
    if node.op not in NAMES:
        return None
    rows, index, least = NAMES[node.op]
    size, given = node.inputs[rows].shape[0], node.inputs[index]
    return (node, given.name, least, size) if given.op == "input" and isinstance(size, int) else None


def _whole(function: Run, node: Node, step: Step, *values: Any) -> Any:
    return function(step, node, *values)


def _array(value: Tensor | State) -> Array:
    """A value on the host."""
    found = values_of(value) if isinstance(value, State) else value
    return np.asarray(found.cpu().numpy(), order="C")
