"""Mixtures of experts as steps: pairs of a row and a choice are put in order by expert once, and stay so if they can.

Whose rows may stay in that order is decided in grouping.py.
"""

from __future__ import annotations

from puna import dtypes
from puna.backends.cpu import _native, emit_core, fuse, grouping, views
from puna.backends.cpu.emit_core import numbers
from puna.backends.cpu.emit_fused import row_kernel
from puna.backends.cpu.lowering import Lowering, emits
from puna.backends.cpu.views import View, extents, number, product
from puna.backends.cpu.weights import type_id
from puna.graph.tensor import Tensor


@emits("top_k")
def top_k(lowering: Lowering, node: Tensor) -> View:
    """Each row by itself."""
    x, out = lowering.view(node.sources[0]), lowering.new(dtypes.I32, extents(node.shape))
    rows = product(x.shape[:-1])
    into = views.whole(out.storage, dtypes.I32, (rows, out.shape[-1]))
    lowering.step("top_k", into, lowering.rows(lowering.reshaped(x, (rows, x.shape[-1]))))
    return out


@emits("experts")
def experts(lowering: Lowering, node: Tensor) -> View:
    """The products, brought back to the order of the choices."""
    y, out = _in_order(lowering, node), lowering.new(dtypes.F32, extents(node.shape))
    count = numbers(node.inputs[1].shape)[0]
    pairs = views.whole(out.storage, dtypes.F32, y.shape)
    lowering.step("ungroup", pairs, y, _route(lowering, node), ints=(count,))
    return out


@emits("sum")
def total(lowering: Lowering, node: Tensor) -> View:
    """Of the chosen experts' results, each times its share, in one step; else as any sum."""
    (weighted,) = node.sources
    if weighted not in lowering.deferred or lowering.is_emitted(weighted):
        return emit_core.reduce(lowering, node)
    y, shares = grouping.parts(weighted)
    rows, _, n = extents(y.shape)
    out = lowering.new(dtypes.F32, extents(node.shape))
    weights = lowering.view(shares)
    each = views.reshape(weights, weights.shape[:2]) or lowering.reshaped(weights, weights.shape[:2])
    into = views.whole(out.storage, dtypes.F32, (rows, n))
    count = numbers(y.inputs[1].shape)[0]
    lowering.step("combine", into, _in_order(lowering, y), each, _route(lowering, y), ints=(count,), tiny=False)
    lowering.absorbed(weighted)
    return out


def _route(lowering: Lowering, node: Tensor) -> View:
    """Where the pairs of these choices lie in order by expert; found once a run."""
    _, w, ids, _ = node.inputs
    count, each = numbers(w.shape)[0], numbers(ids.shape)[-1]
    key = ("route", ids, count)
    if key not in lowering.shared:
        chosen = lowering.view(ids)
        chosen = lowering.reshaped(chosen, (product(chosen.shape),))
        rows = chosen.shape[0]
        out = lowering.bytes_(lambda sizes: 4 * (2 + 2 * count + 2 * views.value(rows, sizes)))
        label = f"route among {count}, {each} each"
        lowering.shared[key] = lowering.step("route", out, chosen, ints=(count,), label=label)
    return lowering.shared[key]


def _in_order(lowering: Lowering, node: Tensor) -> View:
    """The products (pairs, n), those of an expert after each other."""
    key = ("in order", node)
    if key not in lowering.shared:
        _, w, ids, bias = node.inputs
        count, n, k = numbers(w.shape)
        act = _activations(lowering, node, fuse.act_kind(node))
        array = lowering.weights.packed(w.name, (count, n, k), w.dtype)
        panels = lowering.outside(array, dtypes.U8, (number(array.nbytes),))
        offset = None if bias is None else lowering.view(bias)
        offset = offset if offset is None or offset.contiguous else lowering.copied(offset)
        out = lowering.new(dtypes.F32, (product(extents(ids.shape)), number(n)))
        operands, ints = (act, panels, _route(lowering, node), offset), (type_id(w.dtype), n, k, count)
        lowering.shared[key] = lowering.step(
            "experts", out, *operands, ints=ints, tiny=False, label=f"experts {w.name}"
        )
        lowering.absorbed(node)
    return lowering.shared[key]


def _activations(lowering: Lowering, node: Tensor, kind: int) -> View:
    """The input as products of these choices read it, once for all of them; a deferred row op is made on the way."""
    x, w, ids, _ = node.inputs
    count, _, k = numbers(w.shape)
    key = ("act", x, kind, ids, count)
    if key not in lowering.shared:
        made = x in lowering.deferred and not lowering.is_emitted(x)
        if made:
            operands = [_in_order(lowering, source) for source in ([x] if x.op == "experts" else x.sources)]
            lowering.absorbed(x)
        else:
            rows = lowering.rows(lowering.view(x))
            operands = [lowering.reshaped(rows, (product(rows.shape[:-1]), rows.shape[-1]))]
        pairs = product(extents(ids.shape))
        each = 1 if len(x.shape) == 3 else numbers(ids.shape[1:])[0]
        out = lowering.bytes_(
            lambda sizes: _native.act_bytes(kind, views.value(pairs, sizes) + 3 * count, k) + 64 * count
        )
        lowering.shared[key] = lowering.step(
            "experts_act",
            out,
            *(*operands, None, None)[:3],
            _route(lowering, node),
            ints=(row_kernel(x) if made and x.op != "experts" else -1, kind, count, each, int(made)),
            floats=(x.attrs.get("eps", 0.0),),
            tiny=each > 1,  # of one token: that row is converted once, of `each` rows every thread would convert all
            label=f"act of {x.op} for experts",
        )
    return lowering.shared[key]
