"""A compiled program: stages in turn on the host and on the device, each with a graph of ggml's for a set of sizes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from puna import quants
from puna.backends import definition
from puna.backends.base import Array, Bounds, Inputs, Memory
from puna.backends.ggml.attention import key_of, reads
from puna.backends.ggml.buckets import Buckets
from puna.backends.ggml.building import Arena, Graph, Unsupported, Value, constant
from puna.backends.ggml.hardware import Hardware, Kept
from puna.backends.ggml.ops import EMITS, ON_HOST, fits
from puna.backends.ggml.places import leaves_of, placed, together
from puna.backends.ggml.weights import State, Weights
from puna.backends.walk import Step, Walk
from puna.dtypes import F32
from puna.graph.ops import OPS
from puna.graph.tensor import Tensor as Node
from puna.graph.tensor import concrete

GRAPHS = 32
"""Sets of sizes whose graphs are kept."""
ROOM = 0.95
"""The part of what is free on a device that is filled before the next one is."""


HOST = -1
"""The place of what numpy computes; devices are numbered from 0."""


class Stage(NamedTuple):
    """Nodes that are computed together, on a device by a graph."""

    nodes: list[Node]
    graph: Graph | None


class Split(NamedTuple):
    """The stage (level, place) of each node, the first ones of the host, and of attentions that read the same one."""

    stages: dict[Node, tuple[int, int]]
    early: list[Node]
    attending: dict[Any, Node]


class Program:
    """Runs a graph on devices, the first as far as it has room; keeps its states, those of `others` their programs."""

    def __init__(
        self, outputs: Sequence[Node], writes: Sequence[Node], weights: Weights, bounds: Bounds,
        devices: Sequence[Hardware], others: Mapping[str, State],
    ) -> None:  # fmt: skip
        self._devices, self._outputs, self._weights = devices, outputs, weights
        self.layout = "ggml"
        self._walk = walk = Walk(outputs, writes, bounds)
        self._buckets = Buckets(walk, bounds.sizes())
        own = [n for n in walk.leaves("state") if n.name not in others]
        self.memory = Memory(walk.arena, sum(n.dtype.nbytes(concrete(n.shape, {})) for n in own))
        self._homes = self._settled(others)
        homes = {n.name: devices[at] for n, at in self._homes.items()}
        found = weights.take(walk.leaves("weight"), homes, self._beside_weights(own))
        self._own = {n.name: State(homes[n.name], n.dtype, concrete(n.shape, {})) for n in own}
        self.kept = {**others, **self._own}
        self._facts = {n: weights.values(n) for n in walk.leaves("weight") if n not in self._homes}
        constants = [n for n in walk.leaves("constant") if n.dtype is F32 and n.attrs["value"].size]
        self._constants = [{n: constant(hardware, n.attrs["value"]) for n in constants} for hardware in devices]
        self._fixed = [self._lying_on(at, found) for at in range(len(devices))]
        self._arenas = [Arena(hardware) for hardware in devices]
        self._hosted: set[Node] = set()
        self._splits: OrderedDict[Any, Split] = OrderedDict()
        self._plans: OrderedDict[Any, list[Stage]] = OrderedDict()

    def _settled(self, others: Mapping[str, State]) -> dict[Node, int]:
        """The device of each weight and state that one reads; what is in memory already stays where it is."""
        groups = together(leaves_of(n, ON_HOST.get(n.op, ())) for n in self._walk.order)
        there = {id(hardware): at for at, hardware in enumerate(self._devices)}
        old: dict[Node, int] = {}
        for group in groups:
            known = [others[n.name].hardware for n in group if n.name in others]
            known += [home for n in group if n.op == "weight" and (home := self._weights.home(n))]
            if known:
                old |= dict.fromkeys(group, there[id(known[0])])
        rooms = [max(0, int(ROOM * hardware.memory()[0]) - self.memory.arena) for hardware in self._devices]
        return old | placed([g for g in groups if g[0] not in old], _size, rooms)

    def _beside_weights(self, own: Sequence[Node]) -> dict[int, int]:
        """Bytes of states and values on each device."""
        used = {id(hardware): self.memory.arena for hardware in self._devices}
        for node in own:
            used[id(self._devices[self._homes[node]])] += _size(node)
        return used

    def _lying_on(self, at: int, found: Mapping[str, Kept]) -> dict[Node, Value]:
        """The leaves on a device, constants among them."""
        here = [n for n, place in self._homes.items() if place == at]
        fixed = {n: _lying(n, found[n.name]) for n in here if n.op == "weight"}
        fixed |= {n: self._state(n) for n in here if n.op == "state"}
        return fixed | {n: _lying(n, kept) for n, kept in self._constants[at].items()}

    def _state(self, node: Node) -> Value:
        state = self.kept[node.name]
        return Value(state.kept.tensor, state.shape, state.dtype, state)

    @property
    def states(self) -> list[Array]:
        """What states hold, in the type that they are kept in."""
        return [kept.raw for kept in self._own.values()]

    def fetch(self, name: str, size: int, units: Sequence[int]) -> Array:
        """What a state has in some units: see puna.backends.base.Portable."""
        raw = self.kept[name].raw
        return raw.reshape(len(raw) // size, -1)[list(units)][None]

    def put(self, name: str, size: int, units: Sequence[int], data: Array) -> None:
        """Leave what was fetched in a state's units."""
        state = self.kept[name]
        raw = state.raw
        raw.reshape(len(raw) // size, -1)[list(units)] = data[0].reshape(len(units), -1)
        state.put(raw)

    # ---- running ----

    def run(self, inputs: Inputs) -> list[Array]:
        """Every stage in turn, with sizes rounded up."""
        given, wanted = self._walk.checked(inputs)
        sizes = self._buckets.rounded(wanted)
        given = self._buckets.filled(given, sizes)
        while True:
            try:
                found = self._run(given, sizes)
                return [self._buckets.cut(n, array, wanted) for n, array in zip(self._outputs, found, strict=True)]
            except Unsupported as error:  # before anything was computed on a device
                self._hosted.add(error.node)
                self._splits.clear()
                self._plans.clear()

    def _run(self, given: Mapping[str, Array], sizes: Mapping[str, int]) -> list[Array]:
        known: dict[Node, Array] = {n: given[n.name] for n in self._walk.leaves("input")}
        known |= {n: n.attrs["value"] for n in self._walk.leaves("constant")} | self._facts
        step = Step(sizes, given)
        split = self._split(sizes)
        self._on_host(split.early, known, sizes)
        extents = {key: reads(step, n, known).extent for key, n in split.attending.items()}
        for stage in self._plan(sizes, extents, split):
            if stage.graph is None:
                self._on_host(stage.nodes, known, sizes)
            else:
                stage.graph.run(step, known)
        return [known[n] if n in known else self._host_value(n, known) for n in self._outputs]

    def _split(self, sizes: Mapping[str, int]) -> Split:
        """Which stages there are for sizes, worked out once."""
        key = tuple(sorted(sizes.items()))
        if key not in self._splits:
            stages = self._staged(sizes)
            early = [n for n in self._walk.order if stages.get(n) == (0, HOST)]
            attending = {key_of(n): n for n in self._walk.order if n.op == "attention" and stages[n][1] != HOST}
            self._splits[key] = Split(stages, early, attending)
        self._splits.move_to_end(key)
        while len(self._splits) > GRAPHS:
            self._splits.popitem(last=False)
        return self._splits[key]

    def _staged(self, sizes: Mapping[str, int]) -> dict[Node, tuple[int, int]]:
        """The level and the place of each node that is computed; what comes from another place is of a level before."""
        stages: dict[Node, tuple[int, int]] = {}
        for node in self._walk.order:
            if not OPS[node.op].leaf:
                place = self._place(node, sizes, stages)
                before = [stages[i] for i in node.sources if i in stages]
                stages[node] = max((level + (other != place) for level, other in before), default=0), place
        return stages

    def _place(self, node: Node, sizes: Mapping[str, int], stages: Mapping[Node, tuple[int, int]]) -> int:
        """The device of what a node reads for good, else of its last input; HOST for what ggml does not compute."""
        if node in self._hosted or not self._emitted(node, sizes, stages):
            return HOST
        needed = ON_HOST.get(node.op, ())
        if leaves := leaves_of(node, needed):
            return self._homes[leaves[0]]
        others = [stages[i] for at, i in enumerate(node.inputs) if i in stages and at not in needed]
        return max((stage for stage in others if stage[1] != HOST), default=(0, 0))[1]

    def _emitted(self, node: Node, sizes: Mapping[str, int], stages: Mapping[Node, tuple[int, int]]) -> bool:
        """Whether ggml computes a node: one of floats, with elements, and with the host knowing what it must."""
        shape, shapes = concrete(node.shape, sizes), [concrete(i.shape, sizes) for i in node.sources]
        if node.op not in EMITS or (node.dtype is not F32 and node.op != "write") or 0 in shape:
            return False
        if any(0 in each for each in shapes) or not fits(node, shapes, shape):
            return False
        needed = [stages.get(node.inputs[i], (0, HOST)) for i in ON_HOST.get(node.op, ())]
        if node.op == "attention":  # how far it reads has to be known before anything is built
            return all(stage == (0, HOST) for stage in needed)
        return all(place == HOST for _, place in needed)

    def _plan(self, sizes: Mapping[str, int], extents: Mapping[Any, int], split: Split) -> list[Stage]:
        """The stages for sizes, built when they are first needed."""
        key = (tuple(sorted(sizes.items())), tuple(extents.values()))
        plan = self._plans.pop(key, None)
        while plan is None or not all(stage.graph is None or stage.graph.alive() for stage in plan):
            plan = self._built(sizes, extents, split.stages)  # once more where the memory grew with a later graph
        self._plans[key] = plan
        while len(self._plans) > GRAPHS:
            self._plans.popitem(last=False)
        return plan

    def _built(
        self, sizes: Mapping[str, int], extents: Mapping[Any, int], stages: Mapping[Node, tuple[int, int]]
    ) -> list[Stage]:
        nodes: dict[tuple[int, int], list[Node]] = {}
        for node, stage in stages.items():
            nodes.setdefault(stage, []).append(node)
        later = set(self._outputs) | {i for n, at in stages.items() for i in n.sources if stages.get(i, at) != at}
        out = []
        for stage in sorted(nodes):
            graph = None
            if stage[1] != HOST:
                graph = Graph(self._fixed[stage[1]], self._arenas[stage[1]], sizes, extents, len(nodes[stage]))
                for node in nodes[stage]:
                    graph.add(node, EMITS[node.op], fetched=node in later and node.op != "write")
                graph.allocate()
            if stage != (0, HOST):
                out.append(Stage(nodes[stage], graph))
        return out

    # ---- what the host computes ----

    def _on_host(self, nodes: Sequence[Node], known: dict[Node, Array], sizes: Mapping[str, int]) -> None:
        for node in nodes:
            shape = concrete(node.shape, sizes)
            if 0 in shape:
                known[node] = np.zeros(shape, node.dtype.numpy)
                continue
            arrays = [None if i is None else self._host_value(i, known) for i in node.inputs]
            known[node] = definition.evaluate(node, arrays, sizes)
            if OPS[node.op].changes:
                self._leave(node.inputs[0], arrays[0])
                if node.op == "write":
                    del known[node]

    def _host_value(self, node: Node, known: Mapping[Node, Array]) -> Array:
        if node in known:
            return known[node]
        if node.op == "weight":
            return self._weights.values(node)
        return self.kept[_state_of(node).name].values

    def _leave(self, node: Node, values: Any) -> None:
        """What the host made of a state."""
        state = self.kept[_state_of(node).name]
        state.put(values if state.dtype is F32 else quants.quantize(values, state.dtype.name))


def _state_of(node: Node) -> Node:
    while node.op == "write":
        node = node.inputs[0]
    return node


def _size(node: Node) -> int:
    return node.dtype.nbytes(concrete(node.shape, {}))


def _lying(node: Node, kept: Kept) -> Value:
    """A leaf's value in the type that it is kept in."""
    return Value(kept.tensor, concrete(node.shape, {}), kept.dtype)
