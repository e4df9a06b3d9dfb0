"""Qwen 3: Llama with an RMS norm on each head's q and k before the rotary positions, which are in halves.

Reference: https://arxiv.org/abs/2505.09388, transformers `modeling_qwen3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import llama
from puna.arch.base import KV, Batch, Config, Weight
from puna.graph import Tensor

HF_CLASSES = ("Qwen3ForCausalLM", "Qwen3Model")
HF_PREFIXES = {"embed_tokens.": "model.embed_tokens.", "layers.": "model.layers.", "norm.": "model.norm."}
KNOWN = ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B")
HF_DEFAULTS = llama.HF_DEFAULTS
HF_REQUIRES = llama.HF_REQUIRES | {"use_sliding_window": (None, False)}
HF_NAMES = llama.HF_NAMES | {
    "model.layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
}
HF_IGNORED = llama.HF_IGNORED
GGUF_IGNORED = ("cls.output",)
"""Rows of the output that a reranker compares; they are in the output too."""

caches = llama.caches


@dataclass(frozen=True, kw_only=True)
class Hparams(llama.Hparams):
    """Llama's, and how an embedding model makes one vector of hidden states."""

    pooling_type: int | None = None


@dataclass(frozen=True)
class Block(llama.Block):
    """Weights of one block."""

    attn_q_norm: Weight
    attn_k_norm: Weight


@dataclass(frozen=True)
class Network(llama.Network):
    """Weights of the whole model."""

    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return llama.decoder(net, hp, batch, cache, attention)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = nn.rms_norm(q, block.attn_q_norm, hp.norm_eps), nn.rms_norm(k, block.attn_k_norm, hp.norm_eps)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def hparams_from_hf(config: Config) -> Hparams:
    """A window that `use_sliding_window` leaves off is none."""
    return Hparams.from_hf("qwen3", {**config, "sliding_window": None})
