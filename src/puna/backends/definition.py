"""The definition of every op's values, in numpy: each function below *is* the meaning of the op it stands for.

Plain on purpose; other backends are held to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import dtypes
from puna.backends.base import Array
from puna.dtypes import DType
from puna.graph.tensor import Dim, Tensor, concrete

F32 = NDArray[np.float32]
Function = Callable[..., Array]


def _as(value: Any) -> F32:
    return np.asarray(value, dtype=np.float32)


def erf(x: F32) -> F32:
    """The error function to float64 accuracy, by its series below 3 and its continued fraction above."""
    z = np.abs(x.astype(np.float64))
    small = np.minimum(z, 3.0)
    term, total = small.copy(), small.copy()
    for n in range(1, 60):
        term = term * (-small * small) / n
        total += term / (2 * n + 1)
    large, tail = np.clip(z, 3.0, 30.0), np.zeros_like(z)
    for n in range(60, 0, -1):
        tail = (n / 2) / (large + tail)
    beyond = 1 - np.exp(-large * large) / (np.sqrt(np.pi) * (large + tail))
    return _as(np.copysign(np.where(np.isnan(z), np.nan, np.where(z < 3, total * 2 / np.sqrt(np.pi), beyond)), x))


def sigmoid(x: F32) -> F32:
    """1 / (1 + exp(-x)) without overflow."""
    e = np.exp(-np.abs(x))
    return _as(np.where(x >= 0, 1, e) / (1 + e))


def silu(x: F32) -> F32:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def gelu(x: F32, *, approximate: bool) -> F32:
    """x * Phi(x), or its tanh approximation."""
    if approximate:
        return _as(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return _as(0.5 * x * (1 + erf(x * np.float32(np.sqrt(0.5)))))


def softmax(x: F32) -> F32:
    """Over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return _as(e / e.sum(-1, keepdims=True))


def rms_norm(x: F32, w: F32 | None, *, eps: float) -> F32:
    """x / sqrt(mean(x^2) + eps) * w."""
    y = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(eps))
    return _as(y if w is None else y * w)


def layer_norm(x: F32, w: F32 | None, bias: F32 | None, *, eps: float) -> F32:
    """(x - mean) / sqrt(variance + eps) * w + bias."""
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt(np.mean(centred * centred, -1, keepdims=True) + np.float32(eps))
    y = y if w is None else y * w
    return _as(y if bias is None else y + bias)


def rope(x: F32, positions: Array, frequencies: F32, *, style: str, scale: float) -> F32:
    """Pairs of elements turned by position * frequency, and scaled."""
    half = len(frequencies)
    angle = positions.astype(np.float32)[:, None] * frequencies
    cos, sin = (_as(f(angle))[:, None, :] * np.float32(scale) for f in (np.cos, np.sin))
    first, second = (
        (slice(0, half), slice(half, 2 * half)) if style == "halves" else (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    )
    a, b, y = x[:, :, first], x[:, :, second], x.copy()
    y[:, :, first], y[:, :, second] = a * cos - b * sin, a * sin + b * cos
    return y


def linear(x: F32, w: F32, bias: F32 | None) -> F32:
    """x @ w.T + bias."""
    y = x @ w.T
    return _as(y if bias is None else y + bias)


def attention(
    q: F32, k: F32, v: F32, positions: Array, sequence: Array, table: Array, lengths: Array, sinks: F32 | None,
    bias: F32 | None = None, *, scale: float, causal: bool, window: int, softcap: float, block_size: int,
    chunk: int = 0,
) -> F32:  # fmt: skip
    """Each token on its own: gather what it may read, score, softmax, weigh."""
    heads, share = q.shape[1], q.shape[1] // k.shape[1]
    out = np.zeros((*q.shape[:2], v.shape[2]), np.float32)
    for t, (position, s) in enumerate(zip(positions.tolist(), sequence.tolist(), strict=True)):
        end = min(int(lengths[s]), position + 1) if causal else int(lengths[s])
        end = min(end, position + window) if window else end
        start = max(0, position - window + 1) if window else 0
        if chunk:
            start, end = max(start, position // chunk * chunk), min(end, (position // chunk + 1) * chunk)
        place = np.arange(start, end)
        slots = table[s, place // block_size] * block_size + place % block_size
        keys, values = np.repeat(k[slots], share, axis=1), np.repeat(v[slots], share, axis=1)  # (P, H, D)
        scores = np.einsum("hd,phd->hp", q[t], keys) * np.float32(scale)
        if softcap:
            scores = np.tanh(scores / np.float32(softcap)) * np.float32(softcap)
        if bias is not None:
            reach = bias.shape[1] // 2
            scores = scores + bias[:, np.clip(place - position, -reach, reach) + reach]
        extra = np.empty((heads, 0), np.float32) if sinks is None else sinks[:, None]
        weights = softmax(np.concatenate([scores, extra], 1))[:, : len(place)]
        out[t] = np.einsum("hp,phd->hd", weights, values)
    return out


def causal_conv1d(state: F32, x: F32, w: F32, sequence: Array, state_from: Array, state_to: Array) -> F32:
    """Each sequence by itself: its rows behind those it left, each times its column of weights."""
    y, length = np.empty_like(x), w.shape[1]
    for s, rows, before in _memories(state, sequence, state_from):
        known = np.concatenate([before, x[rows]])
        y[rows] = sum(known[j : j + len(x[rows])] * w[:, j] for j in range(length))
        state[state_to[s]] = known[len(known) - length + 1 :]
    return y


def recurrence(
    state: F32, r: F32, w: F32, k: F32, v: F32, a: F32 | None, b: F32 | None, rates: F32 | None,
    sequence: Array, state_from: Array, state_to: Array,
) -> F32:  # fmt: skip
    """Each sequence by itself, token after token, all heads at once."""
    y = np.empty_like(v)
    for s, rows, memory in _memories(state, sequence, state_from):
        for t in range(rows.start, rows.stop):
            kept = w[t] if rates is None else np.exp(w[t] * rates)
            changed = memory * kept[:, :, None]
            if a is not None and b is not None:
                changed += b[t][:, :, None] * np.einsum("hk,hkv->hv", a[t], memory)[:, None]
            memory = changed + k[t][:, :, None] * v[t][:, None]
            y[t] = np.einsum("hk,hkv->hv", r[t], memory)
        state[state_to[s]] = memory
    return y


def _memories(state: F32, sequence: Array, state_from: Array) -> Iterator[tuple[int, slice, F32]]:
    """Of each sequence with rows: its number, its rows, and a copy of what it goes on from."""
    for s in np.unique(sequence).tolist():
        rows = np.flatnonzero(sequence == s)
        before = state[state_from[s]] if state_from[s] >= 0 else np.zeros(state.shape[1:])
        yield s, slice(int(rows[0]), int(rows[-1]) + 1), np.array(before, np.float32)


def top_k(x: F32, *, count: int) -> Array:
    """Places of the largest elements of each row, falling; of equals the first."""
    return np.argsort(-x, axis=-1, kind="stable")[..., :count]


def experts(x: F32, w: F32, ids: Array, bias: F32 | None) -> F32:
    """Each row times the matrices of its experts, one expert after the other; 0 where it has none."""
    rows = np.broadcast_to(x[:, None, :], (*ids.shape, x.shape[-1])) if x.ndim == 2 else x
    out = np.zeros((*ids.shape, w.shape[1]), np.float32)
    for expert in np.unique(ids[ids >= 0]):
        chosen = ids == expert
        out[chosen] = linear(rows[chosen], w[expert], None if bias is None else bias[expert])
    return out


ELEMENTWISE: dict[str, Function] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "maximum": np.maximum,
    "minimum": np.minimum, "neg": np.negative, "abs": np.abs, "exp": np.exp, "log": np.log, "sqrt": np.sqrt,
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "erf": erf, "less": np.less, "equal": np.equal,
    "and": np.logical_and, "not": np.logical_not, "where": np.where,
}  # fmt: skip

FUNCTIONS: dict[str, Function] = ELEMENTWISE | {
    "reshape": lambda x, shape: x.reshape(shape),
    "permute": lambda x, axes: x.transpose(axes),
    "slice": lambda x, axis, start, stop: x[(slice(None),) * axis + (slice(start, stop),)],
    "concat": lambda *xs, axis: np.concatenate(xs, axis),
    "expand": lambda x, shape: np.broadcast_to(x, shape),
    "take": lambda x, index: x[index],
    "iota": lambda size: np.arange(size, dtype=np.int32),
    "sum": lambda x, axis: x.sum(axis, keepdims=True),
    "max": lambda x, axis: x.max(axis, keepdims=True),
    "matmul": np.matmul,
    "dequantize": lambda x: x,
    "linear": linear,
    "embedding": lambda ids, w: w[ids],
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "softmax": softmax,
    "sigmoid": sigmoid,
    "silu": silu,
    "gelu": gelu,
    "silu_mul": lambda gate, up: silu(gate) * up,
    "gelu_mul": lambda gate, up, approximate: gelu(gate, approximate=approximate) * up,
    "rope": rope,
    "attention": attention,
    "causal_conv1d": causal_conv1d,
    "recurrence": recurrence,
    "top_k": top_k,
    "experts": experts,
    "all_reduce": lambda x, count: x,
}
"""The function of each op but `cast` and `write`, called with the inputs' arrays and the attributes."""


def cast(x: Array, dtype: DType) -> Array:
    """Values in another plain dtype; BF16 rounds to nearest even."""
    if dtype is dtypes.BF16:
        bits = _as(x).view(np.uint32)
        return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)
    return x.astype(dtype.numpy)


def rounded(x: F32, dtype: DType) -> F32:
    """float32 values as a state of `dtype` gives them back: stored, then read."""
    if dtype is dtypes.F32:
        return x
    from puna import quants

    return quants.dequantize(quants.quantize(x, dtype.name), dtype.name, x.shape)


def write(state: F32, slots: Array, values: F32, *, dtype: DType) -> F32:
    """state[slots] = values in place; slots below 0 are passed over."""
    kept = slots >= 0
    state[slots[kept]] = rounded(values[kept], dtype)
    return state


def evaluate(node: Tensor, arrays: Sequence[Array | None], sizes: Mapping[str, int] | None = None) -> Array:
    """The value of one node given its inputs' values; `sizes` are the symbolic dimensions of this run."""
    attrs = {k: v for k, v in node.attrs.items() if k != "name"}
    if node.op == "cast":
        return cast(arrays[0], node.attrs["dtype"])  # type: ignore[arg-type]  # cast has its input
    if node.op == "write":
        return write(*arrays, dtype=node.dtype)  # type: ignore[arg-type]
    if "shape" in attrs:
        attrs["shape"] = concrete(attrs["shape"], sizes or {})
    if node.op == "iota" and isinstance(attrs["size"], Dim):
        attrs["size"] = (sizes or {})[attrs["size"].name]
    with np.errstate(all="ignore"):
        result = FUNCTIONS[node.op](*arrays, **attrs)
    return np.asarray(result, dtype=node.dtype.numpy)
