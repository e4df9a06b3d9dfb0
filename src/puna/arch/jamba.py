"""Jamba: Mamba with norms on what its steps are made of, every few blocks attention without positions; some experts.

An expert's share is of a softmax over all of them. Reference: https://arxiv.org/abs/2403.19887, transformers
`modeling_jamba.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, mamba
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.cache import recurrent
from puna.graph import Tensor

HF_CLASSES = ("JambaForCausalLM",)
HF_DEFAULTS = {
    **{"mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": "auto", "rms_norm_eps": 1e-6},
    **{"num_experts": 16, "num_experts_per_tok": 2, "num_key_value_heads": 8, "tie_word_embeddings": False},
    **{"attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1},
}
HF_REQUIRES = {"hidden_act": (None, "silu"), "sliding_window": (None,)}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Jamba's own; a block without K/V heads is one of Mamba."""

    n_kv_heads: tuple[int, ...]
    norm_eps: float
    n_experts: int = 0
    n_experts_used: int = 0
    ssm_conv: int
    ssm_inner: int
    ssm_state: int
    ssm_rank: int


@dataclass(frozen=True)
class Attention:
    """Of a block that attends."""

    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight


@dataclass(frozen=True)
class Dense:
    """One feed-forward network."""

    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Experts:
    """Many of them, and the router that chooses."""

    ffn_gate_inp: Weight
    ffn_gate_exps: Weight
    ffn_up_exps: Weight
    ffn_down_exps: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: mamba.Mixer | Attention
    ffn_norm: Weight
    ffn: Dense | Experts


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """K/V for the blocks that attend, memory per sequence for the others."""
    size = hp.hidden_size // hp.n_heads
    return [Spec(n, size, size) if n else recurrent(*mamba.memory(hp)) for n in hp.n_kv_heads]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        y, mixer = nn.rms_norm(x, block.attn_norm, hp.norm_eps), block.mixer
        if isinstance(mixer, Attention):
            x = x + attention(mixer, hp, y, batch, kv)
        else:
            x = x + mamba.mix(mixer, hp, y, batch, kv, hp.norm_eps)
        x = x + feed_forward(block.ffn, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Attention, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, kv.spec.heads)
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=kv.spec.key_size**-0.5), block.attn_output)


def feed_forward(ffn: Dense | Experts, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden), by the one network or by the chosen experts."""
    if isinstance(ffn, Dense):
        return nn.linear(nn.silu_mul(nn.linear(x, ffn.ffn_gate), nn.linear(x, ffn.ffn_up)), ffn.ffn_down)
    ids, shares = nn.route(nn.linear(x, ffn.ffn_gate_inp), hp.n_experts_used, gating=nn.SOFTMAX)
    return nn.gated_experts(x, ids, shares, ffn.ffn_gate_exps, ffn.ffn_up_exps, ffn.ffn_down_exps)


MIXER = mamba.MIXER | {f"{part}_layernorm": f"ssm_{part}_norm" for part in ("dt", "b", "c")}
FFN = {f"{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")}
HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.final_layernorm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.pre_ff_layernorm": "blk.{}.ffn_norm",
    **{f"model.layers.{{}}.mamba.{part}": f"blk.{{}}.{name}" for part, name in MIXER.items()},
    **{f"model.layers.{{}}.self_attn.{part}_proj": f"blk.{{}}.attn_{part}" for part in "qkv"},
    "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.feed_forward.router": "blk.{}.ffn_gate_inp",
    **{f"model.layers.{{}}.feed_forward.{part}": f"blk.{{}}.{name}" for part, name in FFN.items()},
    **{f"model.layers.{{}}.feed_forward.experts.{{}}.{part}": f"blk.{{}}.{name}_exps" for part, name in FFN.items()},
}
HF_TENSORS = {f"model.layers.{{}}.mamba.{part}": f"blk.{{}}.{name}" for part, name in mamba.VECTORS.items()}
from_hf = mamba.from_hf


def hparams_from_hf(config: Config) -> Hparams:
    """Which blocks attend is said by a period and where it begins."""
    size, rank = int(config["hidden_size"]), config["mamba_dt_rank"]
    period, offset = config["attn_layer_period"], config["attn_layer_offset"]
    attends = [i % period == offset for i in range(config["num_hidden_layers"])]
    known = {
        **{**config, "ssm_inner": int(config["mamba_expand"] * size)},
        "mamba_dt_rank": -(-size // 16) if rank == "auto" else rank,
        "num_key_value_heads": [config["num_key_value_heads"] if yes else 0 for yes in attends],
    }
    return Hparams.from_hf("jamba", known)
