"""Gemma 1: Llama with a GELU gate, heads of their own size, an embedding scaled by sqrt(hidden) and tied.

Norm weights are stored as 1 + w; rotary positions are in halves. The first published config.json says 'gelu' where the
tanh approximation is meant. Reference: https://arxiv.org/abs/2403.08295, transformers `modeling_gemma.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Spec, Transform, Weight
from puna.graph import Tensor

HF_CLASSES = ("GemmaForCausalLM",)
KNOWN = ("google/gemma-2b", "google/gemma-7b-it")
HF_DEFAULTS = {
    **{"head_dim": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 8192},
    **{"tie_word_embeddings": True, "vocab_size": 256000},
}
GELU = (None, "gelu", "gelu_pytorch_tanh")
HF_REQUIRES = {
    **{"hidden_act": GELU, "hidden_activation": GELU, "use_bidirectional_attention": (None, False)},
    "layer_types": (None, "full_attention"),
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Gemma's own."""

    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: nn.Rope


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    ffn_norm: Weight
    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """All blocks alike."""
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd) * hp.hidden_size**0.5
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.rms_norm(x, block.attn_norm, hp.norm_eps)
        x = x + attention(block, hp, y, batch, kv, scale=hp.head_dim**-0.5)
        x = x + feed_forward(block, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(
    block: Any, hp: Any, x: Tensor, batch: Batch, kv: KV, *, scale: float, softcap: float | None = None
) -> Tensor:
    """(T, hidden) to (T, hidden); siblings have another `scale`, or bound the scores."""
    frequencies = nn.frequencies(hp.rope)
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    y = nn.attention(q, k, v, batch, kv, scale=scale, softcap=softcap or 0.0)
    return nn.linear(y, block.attn_output)


def feed_forward(block: Any, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.gelu_mul(nn.linear(x, block.ffn_gate), nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = llama.HF_NAMES


def from_hf(name: str, hp: Any) -> Transform | None:
    """Every norm multiplies by 1 + w."""
    return base.plus_one() if name.endswith("norm.weight") else None
