"""Ops as nodes of ONNX, by name: each is given the graph in the making, its node, and the names of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import numpy as np
from onnx import TensorProto

from puna import dtypes
from puna.backends.onnx.values import Codes, State, Weight, rows_of, values_of
from puna.backends.onnx.writing import Writer, plain
from puna.graph.tensor import Dim, Tensor

Write = Callable[..., Any]
END = 1 << 31


def same(op: str) -> Write:
    """An op that ONNX has under another name."""
    return lambda w, node, *values: w(op, *values)


def total(w: Writer, node: Tensor, x: str) -> str:
    """Sum over one axis, which is kept."""
    return w("ReduceSum", x, w.ints(node.attrs["axis"]), keepdims=1)


def largest(w: Writer, node: Tensor, x: str) -> str:
    """Maximum over one axis, which is kept; onnxruntime's passes over NaN."""
    axis = w.ints(node.attrs["axis"])
    odd = w("ReduceMax", w.cast(w("IsNaN", x), TensorProto.FLOAT), axis, keepdims=1)
    found = w("Greater", odd, w.constant(np.float32(0)))
    return w("Where", found, w.constant(np.float32(np.nan)), w("ReduceMax", x, axis, keepdims=1))


def where(w: Writer, node: Tensor, condition: str, a: str, b: str) -> str:
    """a where the condition holds, else b; onnxruntime has none for bools."""
    if node.dtype is not dtypes.BOOL:
        return w("Where", condition, a, b)
    return w.cast(w("Where", condition, *(w.cast(x, TensorProto.UINT8) for x in (a, b))), TensorProto.BOOL)


def cast(w: Writer, node: Tensor, x: str) -> str:
    """Values in another plain dtype."""
    return w.cast(x, plain(node.dtype))


def sliced(w: Writer, node: Tensor, x: str) -> str:
    """`start` up to `stop` of an axis."""
    return w.cut(x, node.attrs["axis"], node.attrs["start"], node.attrs["stop"])


def expand(w: Writer, node: Tensor, x: str) -> str:
    """Axes of length 1 repeated; an axis that has its size already is left as it is."""
    (source,) = node.inputs
    shape = [1 if a == b else b for a, b in zip(source.shape, node.shape, strict=True)]
    return w("Expand", x, w("Concat", *map(w.size, shape), axis=0) if shape else w.ints())


def take(w: Writer, node: Tensor, x: str | State, index: str) -> str:
    """x[index]."""
    return x.read(w, index) if isinstance(x, State) else w("Gather", x, index)


def iota(w: Writer, node: Tensor) -> str:
    """0, 1, 2 ..."""
    size = node.attrs["size"]
    return w.upto(w.size(size)) if isinstance(size, Dim) else w.constant(np.arange(size, dtype=np.int32))


def write(w: Writer, node: Tensor, state: State, slots: str, values: str) -> State:
    """The state after it."""
    return state.written(w, slots, values)


def linear(w: Writer, node: Tensor, x: str, weight: Weight, bias: Weight | None) -> str:
    """x @ w.T + bias."""
    if isinstance(weight, Codes):
        y = weight.product(w, x)
        return y if bias is None else w("Add", y, values_of(w, bias))
    return w("Gemm", x, weight, *([] if bias is None else [values_of(w, bias)]), transB=1)


def rms_norm(w: Writer, node: Tensor, x: str, weight: str | None) -> str:
    """x / sqrt(mean(x^2) + eps) * w."""
    mean = w("ReduceMean", w("Mul", x, x), w.ints(-1), keepdims=1)
    y = w("Div", x, w("Sqrt", w("Add", mean, w.constant(np.float32(node.attrs["eps"])))))
    return y if weight is None else w("Mul", y, weight)


def layer_norm(w: Writer, node: Tensor, x: str, weight: str | None, bias: str | None) -> str:
    """(x - mean) / sqrt(variance + eps) * w + bias."""
    centred = w("Sub", x, w("ReduceMean", x, w.ints(-1), keepdims=1))
    y = rms_norm(w, node, centred, weight)
    return y if bias is None else w("Add", y, bias)


def silu(w: Writer, node: Tensor, x: str) -> str:
    """x * sigmoid(x)."""
    return w("Mul", x, w("Sigmoid", x))


def gelu(w: Writer, node: Tensor, x: str) -> str:
    """x * Phi(x), or its tanh approximation."""
    if node.attrs["approximate"]:
        cube = w("Mul", w("Mul", w("Mul", x, x), x), w.constant(np.float32(0.044715)))
        inner = w("Tanh", w("Mul", w("Add", x, cube), w.constant(np.float32(sqrt(2 / pi)))))
    else:
        inner = w("Erf", w("Mul", x, w.constant(np.float32(sqrt(0.5)))))
    return w("Mul", w("Mul", x, w.constant(np.float32(0.5))), w("Add", inner, w.constant(np.float32(1))))


def rope(w: Writer, node: Tensor, x: str, positions: str, frequencies: str) -> str:
    """Pairs of elements turned by position * frequency, and scaled."""
    tokens, heads, size = node.shape
    half = node.inputs[2].shape[0]
    key = "angles", positions, frequencies, node.attrs["scale"]
    cos, sin = w.once(key, lambda: _angles(w, node, positions, frequencies))
    if node.attrs["style"] == "halves":
        a, b = w.cut(x, 2, 0, half), w.cut(x, 2, half, 2 * half)
    else:
        a, b = (w.cut(x, 2, i, 2 * half, 2) for i in (0, 1))
    first, second = (
        w("Sub", w("Mul", a, cos), w("Mul", b, sin)),
        w("Add", w("Mul", a, sin), w("Mul", b, cos)),
    )
    rest = [w.cut(x, 2, 2 * half, END)] if size != 2 * half else []
    if node.attrs["style"] == "halves":
        return w("Concat", first, second, *rest, axis=2)
    pairs = w("Concat", *(w.axes("Unsqueeze", each, 3) for each in (first, second)), axis=3)
    turned = w.reshaped(pairs, (tokens, heads, 2 * half))
    return w("Concat", turned, *rest, axis=2) if rest else turned


def _angles(w: Writer, node: Tensor, positions: str, frequencies: str) -> tuple[str, str]:
    """Cosines and sines (T, 1, F), scaled."""
    column = w.axes("Unsqueeze", w.cast(positions, TensorProto.FLOAT), 1, 2)
    angle = w("Mul", column, frequencies)
    scale = w.constant(np.float32(node.attrs["scale"]))
    return w("Mul", w("Cos", angle), scale), w("Mul", w("Sin", angle), scale)


def top_k(w: Writer, node: Tensor, x: str) -> str:
    """Places of the largest elements of each row, falling; of equals ONNX takes the first, too."""
    _, found = w.several("TopK", x, w.ints(node.attrs["count"]), count=2, axis=-1)
    return w.cast(found, TensorProto.INT32)


FUNCTIONS: dict[str, Write] = {
    "add": same("Add"),
    "sub": same("Sub"),
    "mul": same("Mul"),
    "div": same("Div"),
    "maximum": same("Max"),
    "minimum": same("Min"),
    "neg": same("Neg"),
    "abs": same("Abs"),
    "exp": same("Exp"),
    "log": same("Log"),
    "sqrt": same("Sqrt"),
    "sin": same("Sin"),
    "cos": same("Cos"),
    "tanh": same("Tanh"),
    "erf": same("Erf"),
    "less": same("Less"),
    "equal": same("Equal"),
    "and": same("And"),
    "not": same("Not"),
    "where": where,
    "matmul": same("MatMul"),
    "all_reduce": same("Identity"),
    "cast": cast,
    "reshape": lambda w, node, x: w.reshaped(x, node.shape),
    "permute": lambda w, node, x: w("Transpose", x, perm=node.attrs["axes"]),
    "slice": sliced,
    "concat": lambda w, node, *xs: w("Concat", *xs, axis=node.attrs["axis"]),
    "expand": expand,
    "take": take,
    "iota": iota,
    "sum": total,
    "max": largest,
    "dequantize": lambda w, node, x: values_of(w, x),
    "write": write,
    "linear": linear,
    "embedding": lambda w, node, ids, weight: rows_of(w, weight, ids),
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "softmax": lambda w, node, x: w("Softmax", x, axis=-1),
    "sigmoid": same("Sigmoid"),
    "silu": silu,
    "gelu": gelu,
    "silu_mul": lambda w, node, gate, up: w("Mul", silu(w, node, gate), up),
    "gelu_mul": lambda w, node, gate, up: w("Mul", gelu(w, node, gate), up),
    "rope": rope,
    "top_k": top_k,
}
"""What writes each op but those that loop."""
