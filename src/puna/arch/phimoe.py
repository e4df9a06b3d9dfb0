"""Phi 3.5 MoE: LayerNorm, biases everywhere, and two experts, each weighed among those nearly as good as itself.

Rotary positions are Phi 3's, for short and for long contexts, scaled as the config says (mscale). llama.cpp takes RMS
norms and a softmax over all experts instead; numbers here are those of the reference: https://arxiv.org/abs/2409.12136,
transformers `modeling_phimoe.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from puna import nn
from puna.arch import phi3
from puna.arch.base import KV, Batch, Biased, Config, Weight
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("PhimoeForCausalLM", "PhiMoEForCausalLM")
KNOWN = ("microsoft/Phi-3.5-MoE-instruct", "microsoft/Phi-mini-MoE-instruct")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "original_max_position_embeddings": 4096},
    **{"num_experts_per_tok": 2, "num_local_experts": 16, "tie_word_embeddings": False},
}
HF_REQUIRES = {**phi3.HF_REQUIRES, "num_experts_per_tok": (2,), "router_jitter_noise": (None, 0.01)}
Hparams = phi3.Hparams
NEARLY = 2 * 0.01
"""By how much, relative to the larger, an expert may be worse than one that it is weighed against."""


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Biased
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    ffn_norm: Biased
    ffn_gate_inp: Weight
    ffn_gate_exps: Weight
    ffn_up_exps: Weight
    ffn_down_exps: Weight


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; without `output` the embedding serves."""

    token_embd: Weight
    output_norm: Biased
    output: Weight | None
    rope_factors_short: Weight | None
    rope_factors_long: Weight | None
    blk: Sequence[Block]


caches = phi3.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope, phi3.factors(net, hp, batch))
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.layer_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + feed_forward(block, nn.layer_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k = nn.heads(nn.linear(x, block.attn_q), hp.n_heads), nn.heads(nn.linear(x, block.attn_k), hp.n_kv_heads)
    v = nn.heads(nn.linear(x, block.attn_v), hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    ids, shares = nn.route_sparsely(nn.linear(x, block.ffn_gate_inp), NEARLY)
    return nn.gated_experts(x, ids, shares, block.ffn_gate_exps, block.ffn_up_exps, block.ffn_down_exps)


_EXPERT = "model.layers.{}.block_sparse_moe.experts.{}"
HF_NAMES: dict[str, str | tuple[str, ...]] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    **{f"model.layers.{{}}.self_attn.{part}_proj": f"blk.{{}}.attn_{part}" for part in "qkv"},
    "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
    "model.layers.{}.block_sparse_moe.gate": "blk.{}.ffn_gate_inp",
    **{f"{_EXPERT}.{hf}": f"blk.{{}}.ffn_{part}_exps" for hf, part in (("w1", "gate"), ("w2", "down"), ("w3", "up"))},
}
HF_IGNORED = phi3.HF_IGNORED


def without_scales(config: Config) -> tuple[Config, Any]:
    """The config as Phi 3 has it, and what cosines and sines are multiplied by; ModelError where lengths change it."""
    key = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    said = dict(config.get(key) or {})
    short, long = said.pop("short_mscale", None), said.pop("long_mscale", None)
    if short != long:
        raise ModelError(f"phimoe: config.json: 'short_mscale' is {short}, 'long_mscale' {long}; equal ones would work")
    return {**config, key: said or None}, short


def hparams_from_hf(config: Config) -> Hparams:
    """Phi 3's, but the config may say what cosines and sines are multiplied by."""
    plain, scale = without_scales(config)
    hp = phi3.hparams_from_hf(plain)
    return hp if scale is None else replace(hp, rope=replace(hp.rope, attention_factor=float(scale)))


def extra_tensors(config: Config, hp: Hparams) -> dict[str, list[float]]:
    """Longrope's divisors."""
    return phi3.extra_tensors(without_scales(config)[0], hp)
