"""Phi 1, 1.5 and 2: attention and a GELU network side by side from one LayerNorm, biases everywhere.

A part of each head is turned, in halves. Older files have q, k and v in one matrix. Reference:
https://huggingface.co/microsoft/phi-2, transformers `modeling_phi.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import starcoder2
from puna.arch.base import KV, Batch, Biased, Config, Weight
from puna.graph import Tensor

HF_CLASSES = ("PhiForCausalLM",)
KNOWN = ("microsoft/phi-1", "microsoft/phi-1_5", "microsoft/phi-2")
HF_DEFAULTS = {
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
HF_REQUIRES = {
    "hidden_act": ("gelu_new", "gelu_pytorch_tanh"),
    "qk_layernorm": (None, False),
    "layer_types": (None, "full_attention"),
}
Hparams = starcoder2.Hparams


@dataclass(frozen=True)
class Apart:
    """q, k and v."""

    attn_q: Weight
    attn_k: Weight
    attn_v: Weight


@dataclass(frozen=True)
class Fused:
    """q over k over v."""

    attn_qkv: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Biased
    qkv: Apart | Fused
    attn_output: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    output_norm: Biased
    output: Biased
    blk: Sequence[Block]


caches = starcoder2.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps)
        x = x + attention(block, hp, y, batch, kv) + feed_forward(block, y)
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output)


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    counts = (hp.n_heads, hp.n_kv_heads, hp.n_kv_heads)
    if isinstance(block.qkv, Fused):
        q, k, v = nn.split(nn.heads(nn.linear(x, block.qkv.attn_qkv), sum(counts)), 1, counts)
    else:
        parts = (block.qkv.attn_q, block.qkv.attn_k, block.qkv.attn_v)
        q, k, v = (nn.heads(nn.linear(x, w), count) for w, count in zip(parts, counts, strict=True))
    frequencies = nn.frequencies(hp.rope)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


feed_forward = starcoder2.feed_forward
HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.final_layernorm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q",
    "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v",
    "model.layers.{}.self_attn.dense": "blk.{}.attn_output",
    "model.layers.{}.mlp.fc1": "blk.{}.ffn_up",
    "model.layers.{}.mlp.fc2": "blk.{}.ffn_down",
}
HF_IGNORED = starcoder2.HF_IGNORED


def hparams_from_hf(config: Config) -> Hparams:
    """Half of each head is turned where nothing says; there is no window."""
    part = config.get("partial_rotary_factor") or 0.5
    return Hparams.from_hf("phi2", {**config, "partial_rotary_factor": part, "sliding_window": None})
