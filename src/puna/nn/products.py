"""Weights times rows: of all tokens, of chosen experts, of each head."""

from __future__ import annotations

from typing import Any

from puna.graph import Tensor
from puna.graph.ops import apply
from puna.nn.declared import Weight
from puna.nn.shapes import heads


def embedding(ids: Tensor, w: Weight) -> Tensor:
    """Rows of a (V, D) weight: (T,) ids to (T, D)."""
    return apply("embedding", ids, w.weight)


def linear(x: Tensor, w: Weight) -> Tensor:
    """(T, K) times a (N, K) weight, plus its bias: (T, N)."""
    return apply("linear", x, w.weight, w.bias)


def experts(x: Tensor, w: Weight, ids: Tensor) -> Tensor:
    """(T, K), or (T, k, K), times the matrices (E, N, K) that `ids` (T, k) name, plus their biases: (T, k, N)."""
    return apply("experts", x, w.weight, ids, w.bias)


def each_head(x: Tensor, w: Weight) -> Tensor:
    """(T, H, K), each head times a matrix of its own, (H, N, K): (T, H, N)."""
    rows, count, _ = x.shape
    ids = apply("expand", apply("iota", size=count).reshape(1, count), shape=(rows, count))
    return experts(x, w, ids)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b over the last two axes."""
    return apply("matmul", a, b)


def qkv(x: Tensor, block: Any, count: int, kv_count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (T, count, D), keys and values (T, kv_count, D) of (T, hidden), by a block's three matrices."""
    q, k, v = (linear(x, w) for w in (block.attn_q, block.attn_k, block.attn_v))
    return heads(q, count), heads(k, kv_count), heads(v, kv_count)
