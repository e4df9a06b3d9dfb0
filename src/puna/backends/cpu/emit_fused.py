"""Fused ops as steps: rows, products with stored matrices, rotation, states, attention."""

from __future__ import annotations

import numpy as np

from puna import dtypes
from puna.backends.cpu import _native, fuse, views
from puna.backends.cpu.emit_core import elementwise, numbers
from puna.backends.cpu.lowering import Lowering, emits
from puna.backends.cpu.supports import KEPT
from puna.backends.cpu.views import ONE, Extents, View, extents, number, product
from puna.backends.cpu.weights import type_id
from puna.graph.tensor import Tensor

ROWS = (
    *("rms_norm", "layer_norm", "softmax", "silu", "gelu", "gelu_tanh", "silu_mul", "gelu_mul", "gelu_tanh_mul"),
    "sigmoid",
)
"""Row kernels in the native order."""


def row_kernel(node: Tensor) -> int:
    """The number of a node's row kernel."""
    return ROWS.index(node.op.replace("gelu", "gelu_tanh") if node.attrs.get("approximate") else node.op)


def _row_operands(lowering: Lowering, node: Tensor, shape: Extents) -> list[View | None]:
    """The node's inputs, each shaped as the first; three, None where absent."""
    found: list[View | None] = [None, None, None]
    for i, source in enumerate(node.inputs):
        if source is not None:
            view = lowering.view(source)
            whole = views.expand(view, extents(node.shape)) if len(view.shape) == 1 else view
            found[i] = lowering.rows(lowering.reshaped(whole, shape))
    return found


@emits("rms_norm", "layer_norm", "softmax", "silu", "gelu", "silu_mul", "gelu_mul", "sigmoid")
def row(lowering: Lowering, node: Tensor) -> View:
    """One row kernel for each row."""
    shape, out = extents(node.shape), lowering.new(dtypes.F32, extents(node.shape))
    lead = shape[:-1] if len(shape) == 3 else (product(shape[:-1]), ONE)
    operands = _row_operands(lowering, node, (*lead, shape[-1]))
    into = views.whole(out.storage, dtypes.F32, (*lead, shape[-1]))
    lowering.step("row", into, *operands, ints=(row_kernel(node),), floats=(node.attrs.get("eps", 0.0),), label=node.op)
    return out


# ---- products --------------------------------------------------------------------------------------------------------


def activations(lowering: Lowering, x: Tensor, kind: int) -> View:
    """x as products read it, made once for all of them; a deferred row op is computed on the way."""
    key = ("act", x, kind)
    if key not in lowering.shared:
        made = x in lowering.deferred and not lowering.is_emitted(x)
        shape = extents(x.shape)
        operands = _row_operands(lowering, x, shape) if made else [lowering.rows(lowering.view(x)), None, None]
        ints = (row_kernel(x) if made else -1, kind)
        out = lowering.bytes_(lambda sizes: _native.act_bytes(kind, views.value(shape[0], sizes), shape[1][0]))
        floats = (x.attrs.get("eps", 0.0),)
        lowering.shared[key] = lowering.step("act", out, *operands, ints=ints, floats=floats, label=f"act of {x.op}")
        if made:
            lowering.absorbed(x)
    return lowering.shared[key]


def _whole(lowering: Lowering, vector: Tensor | None) -> View | None:
    if vector is None:
        return None
    view = lowering.view(vector)
    return view if view.contiguous else lowering.copied(view)


def _product(lowering: Lowering, node: Tensor, out: View, add: bool) -> View:
    x, w, bias = node.inputs
    n, k = numbers(w.shape)
    act = activations(lowering, x, fuse.act_kind(node))
    array = lowering.weights.packed(w.name, (n, k), w.dtype)
    panels = lowering.outside(array, dtypes.U8, (number(array.nbytes),))
    offset = _whole(lowering, bias)
    ints = (type_id(w.dtype), n, k, int(add), array.nbytes)
    return lowering.step("linear", out, act, panels, offset, ints=ints, tiny=False, label=f"linear {w.name}")


@emits("linear")
def linear(lowering: Lowering, node: Tensor) -> View:
    """A product into memory of its own."""
    return _product(lowering, node, lowering.new(dtypes.F32, extents(node.shape)), add=False)


@emits("add")
def add(lowering: Lowering, node: Tensor) -> View:
    """Elementwise; a deferred product adds itself to the other side where that lies, if nobody else reads it later."""
    for product_, other in (node.sources, node.sources[::-1]):
        waiting = product_ in lowering.deferred and product_.op == "linear" and not lowering.is_emitted(product_)
        if waiting and other.shape == node.shape and other is not product_:
            activations(lowering, product_.inputs[0], fuse.act_kind(product_))  # it may be what still reads `other`
            if not lowering.may_overwrite(other, node):
                continue
            out = lowering.view(other)
            out.storage.common = True
            lowering.absorbed(product_)
            return _product(lowering, product_, out, add=True)
    return elementwise(lowering, node)


@emits("embedding")
def embedding(lowering: Lowering, node: Tensor) -> View:
    """Rows by id: of the panels where a product reads the weight too and they are exact, else of the stored bytes."""
    ids, w = node.sources
    n, k = numbers(w.shape)
    tied = _native.keeps_values(type_id(w.dtype)) and (
        lowering.weights.is_packed(w.name)
        or any(
            r.op == "linear" for other, readers in lowering.consumers.items() if other.name == w.name for r in readers
        )
    )
    array = lowering.weights.packed(w.name, (n, k), w.dtype) if tied else lowering.weights.raw(w.name, (n, k), w.dtype)
    table = lowering.outside(array, dtypes.U8, (number(array.nbytes),))
    index = lowering.view(ids)
    out = lowering.new(dtypes.F32, extents(node.shape))
    count = product(index.shape)
    rows = views.whole(out.storage, dtypes.F32, (count, number(k)))
    ints = (type_id(w.dtype), n, k, int(tied), array.nbytes)
    lowering.step("embedding", rows, lowering.reshaped(index, (count,)), table, ints=ints, label=f"embedding {w.name}")
    return out


# ---- positions and states --------------------------------------------------------------------------------------------


def rotation(lowering: Lowering, node: Tensor) -> View:
    """Cosines and sines (t, 2, turned), made once a run for all ropes of the same positions and frequencies."""
    _, positions, frequencies = node.sources
    pairs, scale = node.attrs["style"] == "pairs", node.attrs["scale"]
    key = ("rotation", positions, frequencies, pairs, scale)
    if key not in lowering.shared:
        inputs = [lowering.view(i) for i in (positions, frequencies)]
        turned = number(2 * inputs[1].shape[0][0])
        out = lowering.new(dtypes.F32, (inputs[0].shape[0], number(2), turned))
        lowering.shared[key] = lowering.step("rope_table", out, *inputs, ints=(int(pairs),), floats=(scale,))
    return lowering.shared[key]


@emits("rope")
def rope(lowering: Lowering, node: Tensor) -> View:
    """Each head turned."""
    x = lowering.rows(lowering.view(node.sources[0]))
    out = lowering.new(dtypes.F32, x.shape)
    return lowering.step("rope", out, x, rotation(lowering, node), ints=(int(node.attrs["style"] == "pairs"),))


@emits("write")
def write(lowering: Lowering, node: Tensor) -> View:
    """Values into slots of a state; a deferred rope is done on the way."""
    target, slots, values = node.sources
    state, table, pairs = lowering.view(target), None, 0
    if values in lowering.deferred and not lowering.is_emitted(values):
        table, pairs = rotation(lowering, values), int(values.attrs["style"] == "pairs")
        lowering.absorbed(values)
        values = values.sources[0]
    count = product(extents(slots.shape))
    part = (ONE, ONE, *extents(target.shape[1:]))
    shape = (count, product(part[:-1]), part[-1])
    x = lowering.rows(lowering.reshaped(lowering.view(values), shape))
    index = lowering.reshaped(lowering.view(slots), (count,))
    ints = (pairs, KEPT[target.dtype.name], numbers(target.shape)[0], lowering.order(target))
    return lowering.step("write", state, index, x, table, ints=ints, tiny=False, label=f"write {target.name}")


@emits("causal_conv1d")
def causal_conv1d(lowering: Lowering, node: Tensor) -> View:
    """Some channels of a sequence at a time; weights lie turned, so that neighbours are of neighbouring channels."""
    state, x, w, *places = node.sources
    if w.op == "weight":
        turned = np.ascontiguousarray(lowering.weights.values(w.name, numbers(w.shape)).T)
        weights = lowering.outside(turned, dtypes.F32, extents(turned.shape))
    else:
        weights = lowering.copied(views.permute(lowering.view(w), (1, 0)))
    kept, out = lowering.view(state), lowering.new(dtypes.F32, extents(node.shape))
    operands = (kept, lowering.rows(lowering.view(x)), weights, *map(lowering.view, places))
    return lowering.step("causal_conv1d", out, *operands, also=(kept,), tiny=False)


@emits("recurrence")
def recurrence(lowering: Lowering, node: Tensor) -> View:
    """A head of a sequence at a time."""
    state, *given = node.inputs
    kept, out = lowering.view(state), lowering.new(dtypes.F32, extents(node.shape))
    operands = [None if i is None else lowering.rows(lowering.view(i)) for i in given]
    return lowering.step("recurrence", out, kept, *operands, also=(kept,), tiny=False)


# ---- attention -------------------------------------------------------------------------------------------------------


def _window(node: Tensor) -> int:
    """A chunk is a window below 0 (native/kernels/attention.h)."""
    return int(node.attrs["window"]) or -int(node.attrs.get("chunk", 0))


def _spans(lowering: Lowering, node: Tensor, share: int) -> View:
    """What the tokens of the batch read, found once a run for all layers alike."""
    leaves = [node.inputs[i] for i in (3, 4, 6)]  # positions, sequence, lengths
    causal, window = int(node.attrs["causal"]), _window(node)
    room = numbers(node.inputs[5].shape)[-1] * int(node.attrs["block_size"])
    key = ("spans", *leaves, causal, window, share, room)
    if key not in lowering.shared:
        inputs = [lowering.view(i) for i in leaves]
        tokens = inputs[0].shape[0]
        out = lowering.bytes_(lambda sizes: _native.attention_plan_bytes(views.value(tokens, sizes)))
        lowering.shared[key] = lowering.step("attention_plan", out, *inputs, ints=(causal, window, share, room))
    return lowering.shared[key]


@emits("attention")
def attention(lowering: Lowering, node: Tensor) -> View:
    """One step; long contexts of few tokens are combined from parts in memory of the step's own."""
    q, k, v, positions, _, table, lengths, *added = node.inputs
    heads, (capacity, groups, size), value_size = int(q.shape[1]), numbers(k.shape), numbers(v.shape)[2]
    share = heads // groups
    partial = lowering.bytes_(lambda sizes: _native.attention_partial_bytes(groups, share, value_size))
    done = lowering.outside(_native.allocate(4 * groups * _native.ATTENTION_SLOTS, True), dtypes.U8, (ONE,))
    sinks, bias = (_whole(lowering, x) for x in (*added, None)[:2])
    operands = [
        *(lowering.rows(lowering.view(q)), lowering.view(k), lowering.view(v), lowering.view(positions)),
        *(lowering.view(table), lowering.view(lengths), sinks, bias),
        *(_spans(lowering, node, share), partial, done),
    ]
    ints = (
        *(
            int(node.attrs["causal"]),
            _window(node),
            int(node.attrs["block_size"]),
            groups,
            size,
            value_size,
        ),
        *(KEPT[k.dtype.name], KEPT[v.dtype.name], lowering.order(k), lowering.order(v), capacity),
    )
    out = lowering.new(dtypes.F32, extents(node.shape))
    floats = (float(node.attrs["scale"]), float(node.attrs["softcap"]))
    return lowering.step("attention", out, *operands, ints=ints, floats=floats, also=(partial, done), tiny=False)
