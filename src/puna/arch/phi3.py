"""Phi 3 and 4: Llama with q, k and v in one matrix, gate and up in another, and rotary positions in halves.

Those with 128k (longrope) have two tensors of divisors of the rotary frequencies. As in llama.cpp, the size of the
context that a model is run with decides: more than `rope.scaling.original_context_length`, and it is the long one, from
the first token on (transformers changes over when a text becomes as long). Reference:
https://arxiv.org/abs/2404.14219, transformers `modeling_phi3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from puna import nn
from puna.arch import llama, rope
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.cache import BLOCK
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("Phi3ForCausalLM",)
KNOWN = ("microsoft/Phi-3-mini-4k-instruct", "microsoft/phi-4")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "original_max_position_embeddings": 4096},
    **{"tie_word_embeddings": False},
}
HF_REQUIRES = llama.HF_REQUIRES


@dataclass(frozen=True, kw_only=True)
class Hparams(llama.Hparams):
    """Phi's own; a window of 0 is none. `original_context` is said even where nothing was stretched."""

    sliding_window: int = 0
    original_context: int = 4096


@dataclass(frozen=True)
class Block:
    """Weights of one block: `attn_qkv` is q over k over v, `ffn_up` gate over up."""

    attn_norm: Weight
    attn_qkv: Weight
    attn_output: Weight
    ffn_norm: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; without `output` the embedding serves."""

    token_embd: Weight
    output_norm: Weight
    output: Weight | None
    rope_factors_short: Weight | None
    rope_factors_long: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """All blocks alike."""
    return llama.caches(hp)


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope, factors(net, hp, batch))
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + feed_forward(block, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def factors(net: Any, hp: Any, batch: Batch) -> Weight | None:
    """The divisors of the rotary frequencies for the context that the batch's tables have room for."""
    _, blocks = batch.table.shape
    stretched = isinstance(blocks, int) and blocks * BLOCK > hp.original_context
    chosen: Weight | None = net.rope_factors_long if stretched else net.rope_factors_short
    return chosen


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    qkv = nn.heads(nn.linear(x, block.attn_qkv), hp.n_heads + 2 * hp.n_kv_heads)
    q, k, v = nn.split(qkv, 1, (hp.n_heads, hp.n_kv_heads, hp.n_kv_heads))
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(block: Block, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    gate, up = nn.split(nn.linear(x, block.ffn_up), 1, (hp.ffn_size, hp.ffn_size))
    return nn.linear(nn.silu_mul(gate, up), block.ffn_down)


HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.self_attn.qkv_proj": "blk.{}.attn_qkv",
    "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
    "model.layers.{}.mlp.gate_up_proj": "blk.{}.ffn_up",
    "model.layers.{}.mlp.down_proj": "blk.{}.ffn_down",
}
HF_IGNORED = llama.HF_IGNORED


def hparams_from_hf(config: Config) -> Hparams:
    """Longrope's factor of the scores goes with plain rotary settings; its divisors are tensors."""
    if (stretched := rope.longrope(config)) is None:
        return Hparams.from_hf("phi3", config)
    said = config.get("rope_parameters") or config.get("rope_scaling") or {}
    plain = {key: said[key] for key in ("rope_theta", "partial_rotary_factor") if said.get(key)}
    hp = Hparams.from_hf("phi3", {**config, **plain, "rope_parameters": None, "rope_scaling": None})
    return replace(hp, rope=replace(hp.rope, attention_factor=stretched.attention_factor))


def extra_tensors(config: Config, hp: Hparams) -> dict[str, list[float]]:
    """Longrope's divisors."""
    if (stretched := rope.longrope(config)) is None:
        return {}
    for side in (stretched.short, stretched.long):
        if len(side) != hp.rope.dim // 2:
            raise ModelError(f"phi3: config.json has {len(side)} rope factors; {hp.rope.dim // 2} would work")
    return {"rope_factors_short.weight": stretched.short, "rope_factors_long.weight": stretched.long}
