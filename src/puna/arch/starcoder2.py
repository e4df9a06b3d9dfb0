"""StarCoder 2: biases everywhere, LayerNorms before each half of a block, one GELU network; positions in halves.

A window, where config.json says one, is heeded on every block, as transformers does; llama.cpp and files it made have
none. Reference: https://arxiv.org/abs/2402.19173, transformers `modeling_starcoder2.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Biased, Spec, Weight
from puna.graph import Tensor

HF_CLASSES = ("Starcoder2ForCausalLM",)
KNOWN = ("bigcode/starcoder2-3b", "bigcode/starcoder2-15b")
HF_DEFAULTS = {
    **{"hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-5, "rope_theta": 10000.0, "num_key_value_heads": 2},
    **{"tie_word_embeddings": True},
}
HF_REQUIRES = {
    "hidden_act": ("gelu_pytorch_tanh", "gelu_new"),
    "mlp_type": (None, "default"),
    "norm_type": (None, "layer_norm"),
    "layer_types": (None, "full_attention", "sliding_attention"),
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """StarCoder's own."""

    n_kv_heads: int
    head_dim: int
    layer_norm_eps: float
    rope: nn.Rope
    sliding_window: int | None = None


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Biased
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    ffn_norm: Biased
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    output_norm: Biased
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """All blocks alike."""
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, hp.sliding_window or 0)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps), batch, kv)
        x = x + feed_forward(block, nn.layer_norm(x, block.ffn_norm, hp.layer_norm_eps))
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Any, hp: Any, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    frequencies = nn.frequencies(hp.rope)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(block: Any, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.gelu_tanh(nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q",
    "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v",
    "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
    "model.layers.{}.mlp.c_fc": "blk.{}.ffn_up",
    "model.layers.{}.mlp.c_proj": "blk.{}.ffn_down",
}
HF_IGNORED = ("rotary_emb.inv_freq",)
