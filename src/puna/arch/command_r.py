"""Command R: attention and feed-forward side by side from one LayerNorm without a bias; logits are scaled.

Rotary positions are in pairs, in HF too. Command R+ also norms each head's q and k. The embedding is tied. Reference:
https://docs.cohere.com/docs/command-r, transformers `modeling_cohere.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Spec, Weight
from puna.graph import Tensor

NAME = "command-r"
HF_CLASSES = ("CohereForCausalLM",)
KNOWN = ("CohereLabs/c4ai-command-r-v01", "CohereLabs/c4ai-command-r-plus")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "layer_norm_eps": 1e-5, "rope_theta": 10000.0, "logit_scale": 0.0625},
    **{"tie_word_embeddings": True},
}
HF_REQUIRES = {"hidden_act": ("silu",), "layer_types": (None, "full_attention")}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Command R's own."""

    n_kv_heads: int
    head_dim: int
    layer_norm_eps: float
    rope: nn.Rope
    logit_scale: float


@dataclass(frozen=True)
class Block:
    """Weights of one block; the norms of q and k are (heads, head_dim)."""

    attn_norm: Weight
    attn_q: Weight
    attn_q_norm: Weight | None
    attn_k: Weight
    attn_k_norm: Weight | None
    attn_v: Weight
    attn_output: Weight
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
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps)
        x = x + attention(block, hp, y, batch, kv) + feed_forward(block, y)
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd) * hp.logit_scale


def attention(block: Block, hp: Any, x: Tensor, batch: Batch, kv: KV, *, turns: bool = True) -> Tensor:
    """(T, hidden) to (T, hidden); with rotary positions where it `turns`."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = head_norm(q, block.attn_q_norm, hp), head_norm(k, block.attn_k_norm, hp)
    if turns:
        frequencies = nn.frequencies(hp.rope)
        q, k = (nn.rope(y, batch.positions, frequencies, style="pairs", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def head_norm(x: Tensor, w: Weight | None, hp: Any) -> Tensor:
    """(T, H, D), each head normed and multiplied by weights of its own."""
    return x if w is None else nn.layer_norm(x, None, hp.layer_norm_eps) * w.weight


feed_forward = llama.feed_forward
HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q",
    "model.layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "model.layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
    "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v",
    "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.mlp.gate_proj": "blk.{}.ffn_gate",
    "model.layers.{}.mlp.up_proj": "blk.{}.ffn_up",
    "model.layers.{}.mlp.down_proj": "blk.{}.ffn_down",
}
