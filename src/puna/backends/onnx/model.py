"""A lowered graph as one model of ONNX: symbolic sizes, weights that lie outside, states that come in and go out.

A state is an input and, if the graph changes it, an output that is bound to the same memory: it is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from puna.backends.onnx import weights
from puna.backends.onnx.attention import attention
from puna.backends.onnx.experts import experts
from puna.backends.onnx.ops import FUNCTIONS
from puna.backends.onnx.recurrent import causal_conv1d, recurrence
from puna.backends.onnx.values import BYTES, KEPT, State, Weight, part_shapes, values_of
from puna.backends.onnx.writing import CONTRIBUTED, Writer, plain, value_info
from puna.graph.tensor import Dim, Tensor, concrete, topological

OPSET, IR = 21, 10
"""What every onnxruntime from 1.20 on reads."""

CHANGING: dict[str, Callable[..., Any]] = {"causal_conv1d": causal_conv1d, "recurrence": recurrence}
"""Ops that give a value and the state after it."""

STATED = (*CHANGING, "write", "take", "dequantize", "attention")
"""Ops that take a state as it is."""

WRITERS: dict[str, Callable[..., Any]] = {**FUNCTIONS, **CHANGING, "attention": attention, "experts": experts}
"""What writes each op."""


@dataclass(frozen=True)
class Written:
    """A model, the names of its inputs that are no states, and of its outputs that are none.

    `states`: of each state's parts, what they are called as they come in and as they go out (None: not changed).
    """

    model: ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: dict[str, list[tuple[str, str | None]]]


def written(
    outputs: Sequence[Tensor], writes: Sequence[Tensor] = (), *, taking: int = BYTES, halves: bool = False
) -> Written:
    """The model of a graph that has been lowered; weights are named, and their arrays are elsewhere.

    Outputs are called "output.0" and so on, and a state "s" that comes in "s.after" as it goes out. `taking`: see
    puna.backends.onnx.values.BYTES; `halves`: see puna.backends.onnx.weights.parts.
    """
    order = topological([*outputs, *writes])
    given = [node for node in order if node.op == "input"]
    w = Writer({})
    w.sizes.update(_sizes(w, given))
    first = {node.name: _state(node) for node in order if node.op == "state"}
    last = dict(first)
    values = _walked(w, order, last, lambda node: weights.value(w, node, halves, taking))
    found = [w("Identity", values_of(w, values[node]), called=f"output.{i}") for i, node in enumerate(outputs)]
    states = {
        name: [(a, None if a == b else b) for a, b in zip(state.parts, last[name].parts, strict=True)]
        for name, state in first.items()
    }
    results = [_described(name, node) for name, node in zip(found, outputs, strict=True)]
    kept = {info.name: info for state in first.values() for info in _parts(state)}
    results += [_renamed(kept[a], b) for pairs in states.values() for a, b in pairs if b is not None]
    infos = [*(_described(node.name, node) for node in given), *kept.values()]
    outside = [_outside(*part) for node in order if node.op == "weight" for part in weights.parts_of(node, halves)]
    graph = helper.make_graph(w.nodes, "puna", infos, results, [*w.initializers, *outside])
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIBUTED, 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=IR, producer_name="puna")
    return Written(model, tuple(node.name for node in given), tuple(found), states)


def _walked(
    w: Writer, order: Sequence[Tensor], states: dict[str, State], weight: Callable[[Tensor], Weight]
) -> dict[Tensor, Any]:
    """What stands for each node; `states` are then as they are in the end."""
    values: dict[Tensor, Any] = {}
    for node in order:
        if node.op == "input":
            values[node] = node.name
        elif node.op == "constant":
            values[node] = w.constant(node.attrs["value"])
        elif node.op == "weight":
            values[node] = weight(node)
        elif node.op != "state":
            values[node] = _computed(w, node, values, states)
    return values | {n: states[n.name] for n in order if n.op == "state"}


def _computed(w: Writer, node: Tensor, values: dict[Tensor, Any], states: dict[str, State]) -> Any:
    sources = [None if i is None else states[i.name] if i.op == "state" else values[i] for i in node.inputs]
    if node.op not in STATED:
        sources = [s.values(w) if isinstance(s, State) else s for s in sources]
    found: Any = WRITERS[node.op](w, node, *sources)
    if node.op in CHANGING:
        found, states[_root(node)] = found
    elif node.op == "write":
        states[_root(node)] = found
    return found


def _root(node: Tensor) -> str:
    """The name of the state that a node changes."""
    while node.op != "state":
        node = node.inputs[0]
    return node.name


def _sizes(w: Writer, given: Sequence[Tensor]) -> dict[str, str]:
    """Where the sizes of symbols are read: each at the first input that has it."""
    found: dict[str, str] = {}
    for node in given:
        for axis, dim in enumerate(node.shape):
            if isinstance(dim, Dim) and dim.name not in found:
                found[dim.name] = w("Shape", node.name, start=axis, end=axis + 1)
    return found


def _described(name: str, node: Tensor) -> ValueInfoProto:
    dims = [d.name if isinstance(d, Dim) else d for d in node.shape]
    return value_info(name, plain(node.dtype), dims)


def _state(node: Tensor) -> State:
    several = len(KEPT[node.dtype.name]) > 1
    names = (f"{node.name}.codes", f"{node.name}.scales") if several else (node.name,)
    return State(node.dtype, concrete(node.shape, {}), names)


def _parts(state: State) -> list[ValueInfoProto]:
    shapes = part_shapes(state.dtype, state.shape)
    return [value_info(*each) for each in zip(state.parts, KEPT[state.dtype.name], shapes, strict=True)]


def _renamed(info: ValueInfoProto, name: str) -> ValueInfoProto:
    return ValueInfoProto(name=name, type=info.type)


def _outside(name: str, kind: int, shape: tuple[int, ...]) -> TensorProto:
    """A tensor whose bytes are not in the model."""
    tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="elsewhere")
    return tensor
