"""Fusions of this backend: which nodes are best made by the step that reads them.

| node                                   | reader          | what happens                                             |
|----------------------------------------|-----------------|----------------------------------------------------------|
| norm, activation, gated activation     | linears only    | made row by row and quantized at once, for all of them   |
| linear                                 | one add         | adds to the residual where it lies                       |
| rope                                   | one write       | turned on the way into the state                         |
| what lies between products of experts  | see grouping.py | stays in order by expert                                 |

States that only attention reads lie in pages, its keys turned (native/kernels/rows.h).

A deferred node whose reader cannot take it after all is emitted by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from puna.backends.cpu import _native
from puna.backends.cpu.weights import type_id
from puna.graph.tensor import Tensor, topological

VIEW_OPS = frozenset({"reshape", "permute", "slice", "expand", "write"})
LEAVES = frozenset({"input", "weight", "state", "constant"})
ROW_OPS = frozenset({"rms_norm", "layer_norm", "silu", "gelu", "silu_mul", "gelu_mul"})

Consumers = dict[Tensor, list[Tensor]]


def consumers_of(outputs: Sequence[Tensor]) -> Consumers:
    """Who reads each node, once a reading; nodes come after what they read."""
    out: Consumers = {}
    for node in topological(outputs):
        out.setdefault(node, [])
        for source in node.sources:
            out[source].append(node)
    return out


def act_kind(linear: Tensor) -> int:
    """What kind of activations a linear's weight reads."""
    return _native.act_kind(type_id(linear.sources[1].dtype))


def _into_activations(node: Tensor, readers: list[Tensor]) -> bool:
    only = all(r.op == "linear" and r.inputs[0] is node and node not in r.inputs[1:] for r in readers)
    return only and len(node.shape) == 2 and len({act_kind(r) for r in readers}) == 1


def _into_residual(node: Tensor, readers: list[Tensor]) -> bool:
    return len(readers) == 1 and readers[0].op == "add" and readers[0].shape == node.shape


def _into_state(node: Tensor, readers: list[Tensor]) -> bool:
    return len(readers) == 1 and readers[0].op == "write" and readers[0].inputs[2] is node


RULES: dict[str, Callable[[Tensor, list[Tensor]], bool]] = {
    **dict.fromkeys(ROW_OPS, _into_activations),
    "linear": _into_residual,
    "rope": _into_state,
}


def deferred(outputs: Sequence[Tensor], consumers: Consumers) -> set[Tensor]:
    """Nodes that their readers make."""
    wanted = set(outputs)
    found = {node for node, readers in consumers.items() if node.op in RULES and readers and node not in wanted}
    return {node for node in found if RULES[node.op](node, consumers[node])}


SLOTS, PAGES, TURNED = range(3)
"""How a state's slots lie; the number is the kernels'."""
PAGED = {"F32", "F16", "Q8_0"}


def state_of(node: Tensor) -> Tensor:
    """The state behind its writes."""
    return state_of(node.inputs[0]) if node.op == "write" else node


def paged(outputs: Sequence[Tensor], consumers: Consumers) -> dict[Tensor, int]:
    """The order of states that nothing but attention reads, always as keys or always as values, in whole pages."""
    orders: dict[Tensor, set[int]] = {}
    for node, readers in consumers.items():
        if node.op in ("state", "write") and node.dtype.name in PAGED and _has_whole_pages(node):
            found = {_order_for(reader, node) for reader in readers} | ({SLOTS} if node in outputs else set())
            orders.setdefault(state_of(node), set()).update(o for o in found if o is not None)
    return {state: next(iter(found)) for state, found in orders.items() if len(found) == 1}


def _has_whole_pages(state: Tensor) -> bool:
    slots = state.shape[0]
    return isinstance(slots, int) and slots % _native.PAGE_SLOTS == 0


def _order_for(reader: Tensor, node: Tensor) -> int | None:
    if reader.op == "write" and reader.inputs[0] is node and node not in reader.inputs[1:]:
        return None  # which readers the write has is asked of it
    if reader.op != "attention" or reader.attrs["block_size"] % _native.PAGE_SLOTS:
        return SLOTS
    place, *others = (i for i, source in enumerate(reader.inputs) if source is node)
    return SLOTS if others else {1: TURNED, 2: PAGES}.get(place, SLOTS)
