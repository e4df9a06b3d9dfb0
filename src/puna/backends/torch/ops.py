"""Ops as functions on torch tensors, by name: called with the values of a node's inputs, then its attributes.

What weights and states are is known in values.py; attention, experts and ops with memory have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import torch
import torch.nn.functional as F

from puna import dtypes
from puna.backends.torch.blocks import Tensor
from puna.backends.torch.values import Packed, State, product, rows_of, values_of
from puna.dtypes import DType

Function = Callable[..., Any]
PLAIN = {dtypes.F32: torch.float32, dtypes.I32: torch.int32, dtypes.BOOL: torch.bool}
"""The dtypes that nodes compute in."""


def cast(x: Tensor, dtype: DType) -> Tensor:
    """Values in another plain dtype."""
    return x.to(PLAIN[dtype])


def take(x: Tensor | State, index: Tensor) -> Tensor:
    """x[index]."""
    if isinstance(x, State):
        return x.read(index.reshape(-1)).float().reshape(*index.shape, *x.shape[1:])
    return x.index_select(0, index.reshape(-1)).reshape(*index.shape, *x.shape[1:])


def write(state: State, slots: Tensor, values: Tensor) -> State:
    """state[slots] = values in place."""
    return state.write(slots, values)


def rms_norm(x: Tensor, w: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * w."""
    y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)
    return y if w is None else y * w


def layer_norm(x: Tensor, w: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * w + bias."""
    return F.layer_norm(x, x.shape[-1:], w, bias, eps)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return x * torch.sigmoid(x)


def gelu(x: Tensor, approximate: bool) -> Tensor:
    """x * Phi(x), or its tanh approximation; torch's own is not a number at infinity."""
    if approximate:
        return 0.5 * x * (1 + torch.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x * sqrt(0.5)))


def rope(x: Tensor, positions: Tensor, frequencies: Tensor, style: str, scale: float) -> Tensor:
    """Pairs of elements turned by position * frequency, and scaled."""
    half = len(frequencies)
    angle = (positions.float()[:, None] * frequencies)[:, None, :]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    if style == "halves":
        a, b = x[:, :, :half], x[:, :, half : 2 * half]
        return torch.cat((a * cos - b * sin, a * sin + b * cos, x[:, :, 2 * half :]), 2)
    a, b = x[:, :, 0 : 2 * half : 2], x[:, :, 1 : 2 * half : 2]
    turned = torch.stack((a * cos - b * sin, a * sin + b * cos), 3).flatten(2)
    return turned if 2 * half == x.shape[2] else torch.cat((turned, x[:, :, 2 * half :]), 2)


def linear(x: Tensor, w: Tensor | Packed, bias: Tensor | Packed | None) -> Tensor:
    """x @ w.T + bias."""
    y = product(x, w)
    return y if bias is None else y + values_of(bias)


def all_reduce(x: Tensor, count: int) -> Tensor:
    """The sum over processes."""
    if count > 1:
        x = x.contiguous()
        torch.distributed.all_reduce(x)
    return x


def top_k(x: Tensor, count: int) -> Tensor:
    """Places of the largest elements of each row, falling; of equals the first."""
    return torch.sort(x, dim=-1, descending=True, stable=True).indices[..., :count].to(torch.int32)


FUNCTIONS: dict[str, Function] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "neg": torch.neg,
    "abs": torch.abs,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "less": torch.lt,
    "equal": torch.eq,
    "and": torch.logical_and,
    "not": torch.logical_not,
    "where": torch.where,
    "cast": cast,
    "reshape": lambda x, shape: x.reshape(shape),
    "permute": lambda x, axes: x.permute(axes),
    "slice": lambda x, axis, start, stop: x.narrow(axis, start, stop - start),
    "concat": lambda *xs, axis: torch.cat(xs, axis),
    "expand": lambda x, shape: x.expand(shape),
    "take": take,
    "sum": lambda x, axis: x.sum(axis, keepdim=True),
    "max": lambda x, axis: x.amax(axis, keepdim=True),
    "matmul": torch.matmul,
    "dequantize": values_of,
    "write": write,
    "linear": linear,
    "embedding": lambda ids, w: rows_of(w, ids),
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "softmax": lambda x: torch.softmax(x, -1),
    "sigmoid": torch.sigmoid,
    "silu": silu,
    "gelu": gelu,
    "silu_mul": lambda gate, up: silu(gate) * up,
    "gelu_mul": lambda gate, up, approximate: gelu(gate, approximate) * up,
    "rope": rope,
    "top_k": top_k,
    "all_reduce": all_reduce,
}
"""The function of each op but those that look at a whole step."""
