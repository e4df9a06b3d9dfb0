"""Mixtures of experts: a loop over those that any row goes to, each with all its rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from puna.backends.onnx.values import Weight, rows_of
from puna.backends.onnx.writing import Writer
from puna.graph.tensor import Tensor

INT64 = TensorProto.INT64


def experts(w: Writer, node: Tensor, x: str, weight: Weight, ids: str, bias: Weight | None) -> str:
    """x[t] @ w[ids[t, j]].T + bias[ids[t, j]], 0 where an id is below 0: (T, k, N)."""
    chosen = w.cast(ids, INT64)
    used = w("Max", w("Concat", w("Reshape", chosen, w.ints(-1)), w.ints(0), axis=0), w.constant(np.int64(0)))
    used = w("Unique", used)  # the first is there even where no row is
    nothing = w("Expand", w.constant(np.float32(0)), w("Concat", *map(w.size, node.shape), axis=0))
    each = len(node.inputs[0].shape) == 3

    def one(inner: Writer, i: str, out: str) -> tuple[list[str], list[Any]]:
        expert = inner("Gather", used, inner("Squeeze", i))
        places = inner("Transpose", inner("NonZero", inner("Equal", chosen, expert)), perm=[1, 0])  # n, 2
        if each:
            rows = inner("GatherND", x, places)
        else:
            rows = inner("Gather", x, inner.axes("Squeeze", inner.cut(places, 1, 0, 1), 1))
        y = inner("MatMul", rows, inner("Transpose", rows_of(inner, weight, expert), perm=[1, 0]))
        y = y if bias is None else inner("Add", y, rows_of(inner, bias, expert))
        return [inner("ScatterND", out, places, y)], []

    (result,) = w.loop(w("Shape", used), [(nothing, ("out", TensorProto.FLOAT, None))], one)
    return result
