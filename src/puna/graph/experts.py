"""Fused ops of mixtures of experts: which experts a row goes to, and products with one matrix for each of them."""

from __future__ import annotations

import numpy as np

from puna import dtypes
from puna.dtypes import DType
from puna.graph.fused import QUANTIZED_NMSE, values_of
from puna.graph.ops import Attrs, Inputs, Op, apply, define, require
from puna.graph.tensor import Shape, Tensor, constant


def _top_k(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    (x,), count = inputs, attrs["count"]
    require("top_k", x.dtype is dtypes.F32 and isinstance(x.shape[-1], int), "needs F32 rows", inputs)
    require("top_k", 0 < count <= x.shape[-1], f"a row has no {count} elements", inputs)
    return (*x.shape[:-1], count), dtypes.I32


def _top_k_meaning(node: Tensor) -> Tensor:
    """The largest that was not taken, `count` times; among equals the one whose distance from the end is largest."""
    (x,) = node.sources
    size, last = int(x.shape[-1]), len(x.shape) - 1  # type: ignore[arg-type]  # the shape rule has excluded symbols
    place = constant(np.arange(size, dtype=np.float32).reshape(*[1] * last, size))
    left, found = x, []
    open_ = apply("equal", place, place)  # all
    for _ in range(node.attrs["count"]):
        is_largest = apply("and", apply("equal", left, left.max(last)), open_)
        first = float(size) - apply("where", is_largest, float(size) - place, constant(np.float32(0))).max(last)
        found.append(first.cast(dtypes.I32))
        open_ = apply("and", open_, apply("not", apply("equal", place, first)))
        left = apply("where", open_, x, constant(np.float32(-np.inf)))
    return found[0] if len(found) == 1 else apply("concat", *found, axis=last)


def _experts(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    x, w, ids, bias = inputs
    require(
        "experts", ids.dtype is dtypes.I32 and len(ids.shape) == 2 and len(w.shape) == 3, "needs (T, k) ids", inputs
    )
    fits = x.dtype is dtypes.F32 and x.shape in ((ids.shape[0], w.shape[2]), (*ids.shape, w.shape[2]))
    require("experts", fits, f"'{w.name}' does not fit its input", inputs)
    require("experts", bias is None or bias.shape == w.shape[:2], "the bias does not fit its weight", inputs)
    return (*ids.shape, w.shape[1]), dtypes.F32


def _experts_meaning(node: Tensor) -> Tensor:
    x, w, ids, bias = node.inputs
    (rows, count), (_, n, k) = ids.shape, w.shape
    column = x.reshape(rows, count if len(x.shape) == 3 else 1, k, 1)
    column = apply("expand", column, shape=(rows, count, k, 1))
    chosen, none = apply("maximum", ids, constant(0)), apply("less", ids, constant(0)).reshape(rows, count, 1)
    y: Tensor = apply("matmul", apply("take", values_of(w), chosen), column).reshape(rows, count, n)
    y = y if bias is None else y + apply("take", values_of(bias), chosen)
    return apply("where", none, constant(np.float32(0)), y)


for _op in (
    Op(
        "top_k",
        "The places of the `count` largest elements of each row, falling; of equals the first. NaN has no place.",
        _top_k,
        0.0,
        _top_k_meaning,
    ),
    Op(
        "experts",
        "x[t] @ w[ids[t, j]].T + bias[ids[t, j]]; w of any dtype, (E, N, K). x is (T, K), or (T, k, K) with a row for "
        "each choice. An id below 0 chooses none: its result is 0.",
        _experts,
        QUANTIZED_NMSE,
        _experts_meaning,
    ),
):
    define(_op)
