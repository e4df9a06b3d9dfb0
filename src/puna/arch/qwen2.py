"""Qwen 2 and 2.5: Llama with biases on q, k and v, and rotary positions in halves.

Reference: https://arxiv.org/abs/2407.10671, transformers `modeling_qwen2.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import llama
from puna.arch.base import KV, Batch, Biased, Config
from puna.graph import Tensor

HF_CLASSES = ("Qwen2ForCausalLM",)
KNOWN = ("Qwen/Qwen2-7B-Instruct", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-32B-Instruct")
HF_DEFAULTS = llama.HF_DEFAULTS
HF_REQUIRES = llama.HF_REQUIRES | {"use_sliding_window": (None, False)}
HF_NAMES = llama.HF_NAMES
HF_IGNORED = llama.HF_IGNORED
Hparams = llama.Hparams
caches = llama.caches


@dataclass(frozen=True)
class Block(llama.Block):
    """Weights of one block."""

    attn_q: Biased
    attn_k: Biased
    attn_v: Biased


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
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def hparams_from_hf(config: Config) -> llama.Hparams:
    """A window that `use_sliding_window` leaves off is none."""
    return Hparams.from_hf("qwen2", {**config, "sliding_window": None})
