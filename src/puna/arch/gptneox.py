"""GPT-NeoX, Pythia: q, k and v in one matrix, two LayerNorms side by side, a quarter of each head turned in halves.

HF has q, k and v of each head together. Where `use_parallel_residual` is off, one half of a block follows the other.
GELU is the exact one, as Pythia's; checkpoints with its approximation are refused, as a file cannot say it. Reference:
https://arxiv.org/abs/2204.06745, transformers `modeling_gpt_neox.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Biased, Config, Spec, Transform, Weight
from puna.graph import Tensor

HF_CLASSES = ("GPTNeoXForCausalLM",)
KNOWN = ("EleutherAI/pythia-70m", "EleutherAI/pythia-12b", "EleutherAI/gpt-neox-20b")
HF_DEFAULTS = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "use_parallel_residual": True}
HF_REQUIRES = {"hidden_act": ("gelu",), "layer_types": (None, "full_attention")}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """GPT-NeoX's own."""

    head_dim: int
    layer_norm_eps: float
    rope: nn.Rope
    parallel_residual: bool


@dataclass(frozen=True)
class Block:
    """Weights of one block; `attn_qkv` is q over k over v."""

    attn_norm: Biased
    attn_qkv: Weight
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
    return [Spec(hp.n_heads, hp.head_dim, hp.head_dim)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        after = x + attention(block, hp, nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps), batch, kv)
        before = x if hp.parallel_residual else after
        x = after + feed_forward(block, nn.layer_norm(before, block.ffn_norm, hp.layer_norm_eps))
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.split(nn.heads(nn.linear(x, block.attn_qkv), 3 * hp.n_heads), 1, (hp.n_heads,) * 3)
    frequencies = nn.frequencies(hp.rope)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(block: Any, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.gelu(nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = {
    "gpt_neox.embed_in": "token_embd",
    "gpt_neox.final_layer_norm": "output_norm",
    "embed_out": "output",
    "lm_head": "output",
    "gpt_neox.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "gpt_neox.layers.{}.attention.query_key_value": "blk.{}.attn_qkv",
    "gpt_neox.layers.{}.attention.dense": "blk.{}.attn_output",
    "gpt_neox.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
    "gpt_neox.layers.{}.mlp.dense_h_to_4h": "blk.{}.ffn_up",
    "gpt_neox.layers.{}.mlp.dense_4h_to_h": "blk.{}.ffn_down",
}
HF_IGNORED = ("attention.rotary_emb.inv_freq", "attention.bias", "attention.masked_bias")


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """q over k over v, instead of those of each head together."""
    return base.regroup(hp.n_heads, *(hp.head_dim,) * 3) if ".attn_qkv." in name else None


def hparams_from_hf(config: Config) -> Hparams:
    """Rotary settings have names of their own, and 10000 and a quarter are what their absence means."""
    theta, part = config.get("rotary_emb_base") or 10000.0, config.get("rotary_pct") or 0.25
    return Hparams.from_hf("gptneox", {"rope_theta": theta, "partial_rotary_factor": part, **config})
