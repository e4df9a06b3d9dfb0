"""Ops as functions on MLX arrays, by name: called with the values of a node's inputs, then its attributes."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import mlx.core as mx

from puna import dtypes
from puna.backends.mlx.values import Affine, Array, State, Weight, rows_of, values_of
from puna.dtypes import DType

Function = Callable[..., Any]
PLAIN = {dtypes.F32: mx.float32, dtypes.I32: mx.int32, dtypes.BOOL: mx.bool_}
"""The dtypes that nodes compute in."""


def cast(x: Array, dtype: DType) -> Array:
    """Values in another plain dtype."""
    return x.astype(PLAIN[dtype])


def take(x: Array | State, index: Array) -> Array:
    """x[index]."""
    if isinstance(x, State):
        return x.read(index.reshape(-1)).astype(mx.float32).reshape(*index.shape, *x.shape[1:])
    return x[index]


def sliced(x: Array, axis: int, start: int, stop: int) -> Array:
    """`start` up to `stop` of an axis."""
    return x[(slice(None),) * axis + (slice(start, stop),)]


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return x * mx.sigmoid(x)


def gelu(x: Array, approximate: bool) -> Array:
    """x * Phi(x), or its tanh approximation."""
    if approximate:
        return 0.5 * x * (1 + mx.tanh(sqrt(2 / pi) * (x + 0.044715 * (x * x * x))))
    return 0.5 * x * (1 + mx.erf(x * sqrt(0.5)))


def rms_norm(x: Array, w: Array | None, eps: float) -> Array:
    """x / sqrt(mean(x^2) + eps) * w."""
    return mx.fast.rms_norm(x, w, eps)


def layer_norm(x: Array, w: Array | None, bias: Array | None, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) * w + bias."""
    return mx.fast.layer_norm(x, w, bias, eps)


def rope(x: Array, positions: Array, frequencies: Array, style: str, scale: float) -> Array:
    """Pairs of elements turned by position * frequency, and scaled."""
    half = len(frequencies)
    angle = (positions.astype(mx.float32)[:, None] * frequencies)[:, None, :]
    cos, sin = mx.cos(angle) * scale, mx.sin(angle) * scale
    if style == "halves":
        a, b = x[:, :, :half], x[:, :, half : 2 * half]
        return mx.concatenate((a * cos - b * sin, a * sin + b * cos, x[:, :, 2 * half :]), 2)
    a, b = x[:, :, 0 : 2 * half : 2], x[:, :, 1 : 2 * half : 2]
    turned = mx.stack((a * cos - b * sin, a * sin + b * cos), 3).flatten(2)
    return mx.concatenate((turned, x[:, :, 2 * half :]), 2)


def linear(x: Array, w: Weight, bias: Weight | None) -> Array:
    """x @ w.T + bias."""
    y = w.product(x) if isinstance(w, Affine) else (x.astype(w.dtype) @ w.T).astype(mx.float32)
    return y if bias is None else y + values_of(bias)


def experts(x: Array, w: Weight, ids: Array, bias: Weight | None) -> Array:
    """x[t] @ w[ids[t, j]].T + bias[ids[t, j]], 0 where an id is below 0: (T, k, N)."""
    chosen = mx.maximum(ids, 0)
    rows = x[:, None, None, :] if x.ndim == 2 else x[:, :, None, :]
    if isinstance(w, Affine):
        y = w.products(rows, chosen)
    else:
        y = mx.gather_mm(rows.astype(w.dtype), w.swapaxes(1, 2), rhs_indices=chosen).astype(mx.float32)
    y = y.reshape(*ids.shape, w.shape[1])
    y = y if bias is None else y + rows_of(bias, chosen)
    return mx.where((ids >= 0)[..., None], y, 0.0)


def top_k(x: Array, count: int) -> Array:
    """Places of the largest elements of each row, falling; of equals the first, as MLX's sort keeps their order."""
    return mx.argsort(-x, axis=-1)[..., :count].astype(mx.int32)


FUNCTIONS: dict[str, Function] = {
    "add": mx.add,
    "sub": mx.subtract,
    "mul": mx.multiply,
    "div": mx.divide,
    "maximum": mx.maximum,
    "minimum": mx.minimum,
    "neg": mx.negative,
    "abs": mx.abs,
    "exp": mx.exp,
    "log": mx.log,
    "sqrt": mx.sqrt,
    "sin": mx.sin,
    "cos": mx.cos,
    "tanh": mx.tanh,
    "erf": mx.erf,
    "less": mx.less,
    "equal": mx.equal,
    "and": mx.logical_and,
    "not": mx.logical_not,
    "where": mx.where,
    "cast": cast,
    "reshape": lambda x, shape: x.reshape(shape),
    "permute": lambda x, axes: x.transpose(axes),
    "slice": sliced,
    "concat": lambda *xs, axis: mx.concatenate(xs, axis),
    "expand": lambda x, shape: mx.broadcast_to(x, shape),
    "take": take,
    "sum": lambda x, axis: x.sum(axis, keepdims=True),
    "max": lambda x, axis: x.max(axis, keepdims=True),
    "matmul": mx.matmul,
    "all_reduce": lambda x, count: x,
    "dequantize": values_of,
    "write": State.write,
    "linear": linear,
    "experts": experts,
    "embedding": lambda ids, w: rows_of(w, ids),
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "softmax": lambda x: mx.softmax(x, -1),
    "sigmoid": mx.sigmoid,
    "silu": silu,
    "gelu": gelu,
    "silu_mul": lambda gate, up: silu(gate) * up,
    "gelu_mul": lambda gate, up, approximate: gelu(gate, approximate) * up,
    "rope": rope,
    "top_k": top_k,
}
"""The function of each op but those that look at a whole run."""
