"""Core ops as steps: views where strides allow, elementwise loops, reductions, rows by index."""

from __future__ import annotations

import numpy as np

from puna import dtypes
from puna.backends.cpu import views
from puna.backends.cpu.lowering import Lowering, emits
from puna.backends.cpu.supports import KEPT
from puna.backends.cpu.views import View, extents, number, product
from puna.graph.tensor import Shape, Tensor

ELEMENTWISE = (
    *("neg", "abs", "exp", "log", "sqrt", "sin", "cos", "tanh", "erf", "not"),
    *("add", "sub", "mul", "div", "maximum", "minimum", "less", "equal", "and", "where", "cast"),
)


def numbers(shape: Shape) -> tuple[int, ...]:
    """The shape of a weight or a state, which has no symbols."""
    return tuple(d for d in shape if isinstance(d, int))


@emits("input")
def input_(lowering: Lowering, node: Tensor) -> View:
    """Filled before each run."""
    view = lowering.new(node.dtype, extents(node.shape))
    view.storage.fixed = True
    return view


@emits("constant")
def constant(lowering: Lowering, node: Tensor) -> View:
    """The graph's own array."""
    return lowering.outside(np.ascontiguousarray(node.attrs["value"]), node.dtype, extents(node.shape))


@emits("weight")
def weight(lowering: Lowering, node: Tensor) -> View:
    """Its values; ops that have kernels for stored matrices do not ask for them."""
    values = lowering.weights.values(node.name, numbers(node.shape))
    dtype = dtypes.F32 if values.dtype == dtypes.F32.numpy else node.dtype
    return lowering.outside(values, dtype, extents(node.shape))


@emits("state")
def state(lowering: Lowering, node: Tensor) -> View:
    """Memory of the program, zero at first."""
    return lowering.outside(lowering.states[node], node.dtype, extents(node.shape))


@emits(*ELEMENTWISE)
def elementwise(lowering: Lowering, node: Tensor) -> View:
    """All inputs broadcast to the output's shape."""
    shape = extents(node.shape)
    inputs = [views.expand(lowering.view(i), shape) for i in node.sources]
    return lowering.step(node.op, lowering.new(node.dtype, shape), *inputs)


@emits("reshape")
def reshape(lowering: Lowering, node: Tensor) -> View:
    """Free unless strides forbid it."""
    return lowering.reshaped(lowering.view(node.sources[0]), extents(node.shape))


@emits("all_reduce")
def all_reduce(lowering: Lowering, node: Tensor) -> View:
    """Of one process: nothing is to be done."""
    return lowering.view(node.sources[0])


@emits("permute")
def permute(lowering: Lowering, node: Tensor) -> View:
    """Free."""
    return views.permute(lowering.view(node.sources[0]), node.attrs["axes"])


@emits("slice")
def slice_(lowering: Lowering, node: Tensor) -> View:
    """Free, except along an axis whose stride is symbolic."""
    axis, start, stop = (node.attrs[name] for name in ("axis", "start", "stop"))
    view = lowering.view(node.sources[0])
    found = views.slice_axis(view, axis, start, stop)
    if found is None:
        found = views.slice_axis(_with_axis_last(view, axis, lowering.copied), axis, start, stop)
    return found  # type: ignore[return-value]  # a stride of 1 is a number


def _with_axis_last(view: View, axis: int, make: object) -> View:
    """A value of the same shape whose elements along `axis` are neighbours in memory."""
    last = (*(a for a in range(len(view.shape)) if a != axis), axis)
    moved = make(views.permute(view, last))  # type: ignore[operator]
    return views.permute(moved, [last.index(a) for a in range(len(last))])


@emits("expand")
def expand(lowering: Lowering, node: Tensor) -> View:
    """Free: repeated axes have stride 0."""
    return views.expand(lowering.view(node.sources[0]), extents(node.shape))


@emits("concat")
def concat(lowering: Lowering, node: Tensor) -> View:
    """Each input copied into its part."""
    shape, axis, at = extents(node.shape), node.attrs["axis"], 0
    out = lowering.new(node.dtype, shape)
    if any(out.strides[axis][1:]):  # parts would start at symbolic offsets
        out = _with_axis_last(out, axis, lambda view: lowering.new(view.dtype, view.shape))
    for source in node.sources:
        view = lowering.view(source)
        size, *_ = view.shape[axis]  # a number, by the shape rule
        part = views.slice_axis(out, axis, at, at + size)
        lowering.step("copy", part, view, group=node)  # type: ignore[arg-type]  # the offset is one too
        at += size
    return out


@emits("take")
def take(lowering: Lowering, node: Tensor) -> View:
    """Whole rows of the first axis."""
    x, index = (lowering.view(i) for i in node.sources)
    table = lowering.rows(lowering.reshaped(x, (x.shape[0], product(x.shape[1:]))))
    ids = lowering.reshaped(index, (product(index.shape),))
    out = lowering.new(node.dtype, extents(node.shape))
    flat = views.whole(out.storage, out.dtype, (ids.shape[0], table.shape[1]))
    lowering.step("take", flat, table, ids, ints=(node.dtype.block_bytes,))
    return out


@emits("iota")
def iota(lowering: Lowering, node: Tensor) -> View:
    """Counts."""
    return lowering.step("iota", lowering.new(dtypes.I32, extents(node.shape)))


@emits("sum", "max")
def reduce(lowering: Lowering, node: Tensor) -> View:
    """Over one axis, as (outer, axis, inner)."""
    view, axis = lowering.view(node.sources[0]), node.attrs["axis"]
    outer, inner = product(view.shape[:axis]), product(view.shape[axis + 1 :])
    out = lowering.new(node.dtype, extents(node.shape))
    x = lowering.reshaped(view, (outer, view.shape[axis], inner))
    lowering.step(node.op, views.whole(out.storage, out.dtype, (outer, inner)), x)
    return out


@emits("matmul")
def matmul(lowering: Lowering, node: Tensor) -> View:
    """As (batch, rows, columns)."""
    out = lowering.new(node.dtype, extents(node.shape))
    folded = [lowering.reshaped(v, (product(v.shape[:-2]), *v.shape[-2:])) for v in map(lowering.view, node.sources)]
    batch = views.whole(out.storage, out.dtype, (product(out.shape[:-2]), *out.shape[-2:]))
    lowering.step("matmul", batch, *folded, tiny=False)
    return out


@emits("dequantize")
def dequantize(lowering: Lowering, node: Tensor) -> View:
    """A weight's values are made once; a state's are read each run."""
    (source,) = node.sources
    if source.op == "weight" or source.dtype is dtypes.F32:
        return lowering.view(source)
    return recall(lowering, lowering.view(source), KEPT[source.dtype.name], numbers(node.shape))


def recall(lowering: Lowering, state: View, kept: int, shape: tuple[int, ...]) -> View:
    """A state's values as float32."""
    out = lowering.new(dtypes.F32, extents(shape))
    rows = views.whole(out.storage, dtypes.F32, (number(int(np.prod(shape[:-1]))), number(shape[-1])))
    lowering.step("recall", rows, state, ints=(kept,))
    return out
