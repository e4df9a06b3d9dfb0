"""T5's encoder: no positions but a learned bias on scores by distance, RMS norms before each half, no scale of scores.

The first block's bias serves all. Feed-forward is ReLU in version 1, a gated GELU in 1.1 and later. Distances share
buckets: exact ones when near, logarithmic ones up to 128. Reference: https://arxiv.org/abs/1910.10683, transformers
`modeling_t5.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Annotated, Any

from puna import cache as caches_
from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.errors import ModelError
from puna.graph import Tensor, constant

HF_CLASSES = ("T5EncoderModel",)
HF_DEFAULTS = {"layer_norm_epsilon": 1e-6, "n_positions": 512, "feed_forward_proj": "relu"}
HF_REQUIRES = {
    **{"feed_forward_proj": ("relu", "gated-gelu"), "relative_attention_max_distance": (None, 128)},
    "dense_act_fn": (None, "relu", "gelu_new"),
}
HF_SAME = ("shared", "encoder.embed_tokens")
BLOCKS = {"blk": ("enc.blk", "n_blocks")}

REACH = 128
"""Distances from which on all share a bucket."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """T5's own. Where a file does not say `causal`, llama.cpp takes embeddings of what came before alone."""

    head_dim: int
    norm_eps: float
    n_buckets: int = 32
    pooling_type: int = 0
    causal: bool = False


@dataclass(frozen=True)
class Block:
    """Weights of one block; where it has no bias, the first one's counts."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_o: Weight
    attn_rel_b: Weight | None
    ffn_norm: Weight
    ffn_gate: Weight | None
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    output_norm: Annotated[Weight, "enc.output_norm.weight"]
    blk: list[Block]


def caches(hp: Hparams) -> list[Spec]:
    """Nothing outlives a step."""
    return caches_.encoder(hp.n_blocks, hp.n_heads, hp.head_dim)


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Hidden states (O, hidden)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    biases = biases_of(net.blk, buckets(hp.n_buckets), BLOCKS["blk"][0])
    return nn.rms_norm(
        nn.rows(blocks(net.blk, biases, hp, x, batch, cache), batch.outputs), net.output_norm, hp.norm_eps
    )


def blocks(
    blk: Sequence[Block], biases: Sequence[Tensor], hp: Any, x: Tensor, batch: Batch, cache: Sequence[KV]
) -> Tensor:
    """(T, hidden) through all blocks: (T, hidden)."""
    for block, bias, kv in zip(blk, biases, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), bias, batch, kv)
        x = x + feed_forward(block, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    return x


def attention(block: Block, hp: Any, x: Tensor, bias: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = (nn.heads(nn.linear(x, w), hp.n_heads) for w in (block.attn_q, block.attn_k, block.attn_v))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=1.0, bias=bias), block.attn_o)


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    up = nn.linear(x, block.ffn_up)
    return nn.linear(nn.gelu_mul(nn.linear(x, block.ffn_gate), up) if block.ffn_gate else nn.relu(up), block.ffn_down)


def biases_of(blk: Sequence[Block], places: Sequence[int], prefix: str) -> list[Tensor]:
    """What each block adds to scores by distance (heads, 2 * 128 + 1), given the buckets of distances."""
    if blk[0].attn_rel_b is None:
        raise ModelError(f"t5: the file has no tensor '{prefix}.0.attn_rel_b.weight'")
    index = constant(list(places))
    return [nn.embedding(index, block.attn_rel_b or blk[0].attn_rel_b).permute(1, 0) for block in blk]


def buckets(count: int, *, ahead: bool = True) -> list[int]:
    """The bucket of each distance from -128 to 128; half of them are for what lies `ahead`, if that is seen."""
    half = count // 2 if ahead else count
    exact = half // 2

    def of(distance: int) -> int:
        if distance < exact:
            return distance
        return min(exact + int(log(distance / exact) / log(REACH / exact) * (half - exact)), half - 1)

    return [of(abs(d)) + (half if ahead and d > 0 else 0) for d in range(-REACH, REACH + 1)]


HF_NAMES = {
    **dict.fromkeys(HF_SAME, "token_embd"),
    **{f"encoder.block.{{}}.layer.0.SelfAttention.{p}": f"enc.blk.{{}}.attn_{p}" for p in "qkvo"},
    "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias": "enc.blk.{}.attn_rel_b",
    "encoder.block.{}.layer.0.layer_norm": "enc.blk.{}.attn_norm",
    "encoder.block.{}.layer.1.DenseReluDense.wi": "enc.blk.{}.ffn_up",
    "encoder.block.{}.layer.1.DenseReluDense.wi_0": "enc.blk.{}.ffn_gate",
    "encoder.block.{}.layer.1.DenseReluDense.wi_1": "enc.blk.{}.ffn_up",
    "encoder.block.{}.layer.1.DenseReluDense.wo": "enc.blk.{}.ffn_down",
    "encoder.block.{}.layer.1.layer_norm": "enc.blk.{}.ffn_norm",
    "encoder.final_layer_norm": "enc.output_norm",
}


def hparams_from_hf(config: Config) -> Hparams:
    """T5's names of sizes."""
    return Hparams.from_hf("t5encoder", sizes(config))


def sizes(config: Config) -> Config:
    """A config with T5's names of sizes in more usual words."""
    named = {"num_heads": "num_attention_heads", "d_kv": "head_dim", "layer_norm_epsilon": "rms_norm_eps"}
    named |= {"num_layers": "num_hidden_layers", "d_ff": "intermediate_size"}
    named |= {"relative_attention_num_buckets": "n_buckets"}
    return {**config, **{ours: config.get(key) for key, ours in named.items()}}
