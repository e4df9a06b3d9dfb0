"""LFM2: short convolutions over the latest rows, gated on both sides, and between them a few blocks of attention.

Each head's q and k are normed before the rotary positions, which are in halves. The embedding is tied. Reference:
https://www.liquid.ai/blog/liquid-foundation-models-v2-our-second-series-of-generative-ai-models, transformers
`modeling_lfm2.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from puna import nn
from puna.arch import base, mixture
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.cache import recurrent
from puna.graph import Tensor

HF_CLASSES = ("Lfm2ForCausalLM",)
KNOWN = ("LiquidAI/LFM2-350M", "LiquidAI/LFM2-1.2B")
HF_DEFAULTS = {
    **{"norm_eps": 1e-5, "rope_theta": 1000000.0, "conv_bias": False, "conv_L_cache": 3, "num_key_value_heads": 8},
    **{"block_auto_adjust_ff_dim": True, "block_multiple_of": 256, "block_ffn_dim_multiplier": 1.0},
    **{"tie_word_embeddings": True},
}
HF_REQUIRES = {"conv_bias": (False,), "layer_types": (None, "conv", "full_attention")}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """LFM2's own; a block without K/V heads is a convolution."""

    n_kv_heads: tuple[int, ...]
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    conv_length: int


@dataclass(frozen=True)
class Attention:
    """Of a block that attends."""

    attn_q: Weight
    attn_q_norm: Weight
    attn_k: Weight
    attn_k_norm: Weight
    attn_v: Weight
    attn_output: Weight


@dataclass(frozen=True)
class ShortConv:
    """Of a block that convolves: `in_proj` makes two gates and what they gate, `conv` is (hidden, conv_length)."""

    conv: Annotated[Weight, "shortconv.conv.weight"]
    in_proj: Annotated[Weight, "shortconv.in_proj.weight"]
    out_proj: Annotated[Weight, "shortconv.out_proj.weight"]


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: Attention | ShortConv
    ffn_norm: Weight
    ffn: mixture.Dense


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; the last norm has the name of the first. Without `output` the embedding serves."""

    token_embd: Weight
    token_embd_norm: Weight
    output: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """K/V for the blocks that attend, the latest rows for the others."""
    return [
        Spec(n, hp.head_dim, hp.head_dim) if n else recurrent((hp.conv_length - 1, hp.hidden_size))
        for n in hp.n_kv_heads
    ]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.rms_norm(x, block.attn_norm, hp.norm_eps)
        mixer = block.mixer
        x = x + (
            convolution(mixer, y, batch, kv) if isinstance(mixer, ShortConv) else attention(mixer, hp, y, batch, kv)
        )
        x = x + mixture.feed_forward(block.ffn, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.token_embd_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Attention, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, kv.spec.heads)
    q, k = nn.rms_norm(q, block.attn_q_norm, hp.norm_eps), nn.rms_norm(k, block.attn_k_norm, hp.norm_eps)
    frequencies = nn.frequencies(hp.rope)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def convolution(block: ShortConv, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    (_, width), (state,) = kv.spec.recurrent[0], kv.recurrent
    before, after, y = nn.split(nn.linear(x, block.in_proj), 1, (width,) * 3)
    return nn.linear(after * nn.causal_conv1d(before * y, block.conv, batch, state), block.out_proj)


HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.embedding_norm": "token_embd_norm",
    "lm_head": "output",
    "model.layers.{}.operator_norm": "blk.{}.attn_norm",
    "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q",
    "model.layers.{}.self_attn.q_layernorm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "model.layers.{}.self_attn.k_layernorm": "blk.{}.attn_k_norm",
    "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v",
    "model.layers.{}.self_attn.out_proj": "blk.{}.attn_output",
    **{f"model.layers.{{}}.conv.{part}": f"blk.{{}}.shortconv.{part}" for part in ("conv", "in_proj", "out_proj")},
    "model.layers.{}.ffn_norm": "blk.{}.ffn_norm",
    "model.layers.{}.feed_forward.w1": "blk.{}.ffn_gate",
    "model.layers.{}.feed_forward.w2": "blk.{}.ffn_down",
    "model.layers.{}.feed_forward.w3": "blk.{}.ffn_up",
}


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """A depthwise convolution loses its axis of length 1."""
    return base.squeeze() if name.endswith("shortconv.conv.weight") else None


def hparams_from_hf(config: Config) -> Hparams:
    """Which blocks attend is said in one of two ways; what the config calls the feed-forward size may be 3/2 of it."""
    attends = config.get("full_attn_idxs")
    types = config.get("layer_types") or []
    heads: Any = config["num_key_value_heads"]
    blocks = range(config["num_hidden_layers"])
    each = [i in attends if attends is not None and not types else types[i] == "full_attention" for i in blocks]
    size = int(config.get("block_ff_dim") or config["intermediate_size"])
    if config["block_auto_adjust_ff_dim"]:
        size = int(config["block_ffn_dim_multiplier"] * int(2 * size / 3))
        size = -(-size // config["block_multiple_of"]) * config["block_multiple_of"]
    known = {**config, "num_key_value_heads": [heads if yes else 0 for yes in each], "intermediate_size": size}
    return Hparams.from_hf("lfm2", known)
