"""StableLM 2 and 3B: LayerNorms with biases, a quarter of each head turned in halves, gated SiLU.

The 12B has both halves of a block side by side, from one norm (it has no `ffn_norm`, which is what tells), and norms
each head's q and k. Reference: https://arxiv.org/abs/2402.17834, transformers `modeling_stablelm.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Biased, Config, Spec, Weight
from puna.graph import Tensor

HF_CLASSES = ("StableLmForCausalLM", "StableLMEpochForCausalLM")
KNOWN = ("stabilityai/stablelm-2-1_6b", "stabilityai/stablelm-3b-4e1t")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "layer_norm_eps": 1e-5, "rope_theta": 10000.0, "use_parallel_residual": False},
    **{"tie_word_embeddings": False},
}
HF_REQUIRES = {"hidden_act": ("silu",), "layer_types": (None, "full_attention")}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """StableLM's own."""

    n_kv_heads: int
    head_dim: int
    layer_norm_eps: float
    rope: nn.Rope
    parallel_residual: bool | None = None


@dataclass(frozen=True)
class Block:
    """Weights of one block; the norms of q and k are (heads, head_dim)."""

    attn_norm: Biased
    attn_q: Weight
    attn_q_norm: Weight | None
    attn_k: Weight
    attn_k_norm: Weight | None
    attn_v: Weight
    attn_output: Weight
    ffn_norm: Biased | None
    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    output_norm: Biased
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """All blocks alike."""
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps)
        x = x + attention(block, hp, y, batch, kv)
        if block.ffn_norm is not None:
            y = nn.layer_norm(x, block.ffn_norm, hp.layer_norm_eps)
        x = x + llama.feed_forward(block, y)
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = head_norm(q, block.attn_q_norm, hp), head_norm(k, block.attn_k_norm, hp)
    frequencies = nn.frequencies(hp.rope)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def head_norm(x: Tensor, w: Weight | None, hp: Hparams) -> Tensor:
    """(T, H, D), each head normed and multiplied by weights of its own."""
    return x if w is None else nn.layer_norm(x, None, hp.layer_norm_eps) * w.weight


HF_NAMES = llama.HF_NAMES | {
    "model.layers.{}.self_attn.q_layernorm.norms.{}": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_layernorm.norms.{}": "blk.{}.attn_k_norm",
}
HF_IGNORED = llama.HF_IGNORED


def hparams_from_hf(config: Config) -> Hparams:
    """The part of a head that is turned and the epsilon have older names; where none says, it is a quarter."""
    part = config.get("partial_rotary_factor") or config.get("rope_pct") or 0.25
    eps = config.get("norm_eps") or config["layer_norm_eps"]
    return Hparams.from_hf("stablelm", {**config, "partial_rotary_factor": part, "layer_norm_eps": eps})
