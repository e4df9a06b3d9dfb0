"""Arcee (AFM): Llama with one network of squared ReLU instead of a gated one.

Reference: https://www.arcee.ai/blog/deep-dive-afm-4-5b-the-first-arcee-foundational-model, transformers
`modeling_arcee.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puna import nn
from puna.arch import llama
from puna.arch.base import KV, Batch, Config, Weight
from puna.graph import Tensor

HF_CLASSES = ("ArceeForCausalLM",)
KNOWN = ("arcee-ai/AFM-4.5B",)
HF_DEFAULTS = {"hidden_act": "relu2", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False}
HF_REQUIRES = llama.HF_REQUIRES | {"hidden_act": ("relu2",)}
Hparams = llama.Hparams


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    ffn_norm: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network(llama.Network):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]  # type: ignore[assignment]  # other weights than Llama's


caches = llama.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope, net.rope_freqs)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + feed_forward(block, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


attention = llama.attention


def feed_forward(block: Any, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.relu_squared(nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = llama.HF_NAMES
HF_IGNORED = llama.HF_IGNORED
from_hf = llama.from_hf
extra_tensors = llama.extra_tensors


def hparams_from_hf(config: Config) -> Hparams:
    """No window."""
    return Hparams.from_hf("arcee", {**config, "sliding_window": None})
