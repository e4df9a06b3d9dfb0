"""Seed-OSS: Llama with biases on q, k and v, rotary positions in halves, and heads of a size of their own.

The norm before the feed-forward network is called `post_attention_norm` in GGUF. Reference:
https://github.com/ByteDance-Seed/seed-oss, transformers `modeling_seed_oss.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Weight
from puna.graph import Tensor

HF_CLASSES = ("SeedOssForCausalLM",)
KNOWN = ("ByteDance-Seed/Seed-OSS-36B-Instruct",)
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "head_dim": 128},
    **{"num_key_value_heads": 8, "tie_word_embeddings": False},
}
HF_REQUIRES = llama.HF_REQUIRES | {"sliding_window": (None,)}
Hparams = llama.Hparams
caches = llama.caches


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    post_attention_norm: Weight
    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + llama.feed_forward(block, nn.rms_norm(x, block.post_attention_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


HF_NAMES = llama.HF_NAMES | {"model.layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm"}
HF_IGNORED = llama.HF_IGNORED
