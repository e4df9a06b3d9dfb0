"""Nomic Embed 2, an encoder: as nomic-bert with biases and a plain GELU, and experts in every other block.

Two experts of eight serve a token, by shares that are not scaled to sum to 1. The one bias that a checkpoint adds after
experts is left out: ggml has no place for it, and llama.cpp loads no file that has a tensor more than it knows.
Published configurations say 2048 positions; 512 were trained. Reference: https://arxiv.org/abs/2502.07972.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, nomic_bert
from puna.arch.base import KV, Batch, Biased, Config, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

NAME = "nomic-bert-moe"
HF_CLASSES = ("NomicBertModel", "NomicBertForMaskedLM")
KNOWN = ("nomic-ai/nomic-embed-text-v2-moe",)
HF_PREFIXES = nomic_bert.HF_PREFIXES
HF_DEFAULTS = {"layer_norm_eps": 1e-12, "rope_theta": 10000.0, "activation_function": "gelu"}
HF_REQUIRES = {
    **nomic_bert.HF_REQUIRES,
    **{"hidden_act": (None, "gelu"), "activation_function": ("gelu",)},
    **{"qkv_proj_bias": (None, True), "mlp_fc1_bias": (None, True), "mlp_fc2_bias": (None, True)},
    **{"moe_normalize_expert_weights": (None, False), "num_shared_experts": (None, 0), "ffn_div": (None, 1)},
    "expert_choice_router": (None, False),
}
TRAINED = 512
"""Positions, whatever the config says."""


@dataclass(frozen=True, kw_only=True)
class Hparams(nomic_bert.Hparams):
    """Nomic BERT's; of `moe_interval` blocks the second has experts."""

    n_experts: int
    n_experts_used: int
    moe_interval: int


@dataclass(frozen=True)
class Dense:
    """One feed-forward network."""

    ffn_up: Biased
    ffn_down: Biased


@dataclass(frozen=True)
class Experts:
    """Many of them, (experts, rows, columns) each, and the router that chooses."""

    ffn_gate_inp: Weight
    ffn_up_exps: Weight
    ffn_down_exps: Weight


@dataclass(frozen=True)
class Block(nomic_bert.Attending):
    """Weights of one block."""

    attn_qkv: Biased
    attn_output: Biased
    ffn: Dense | Experts


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    token_types: Weight | None
    token_embd_norm: Biased
    blk: list[Block]


caches = nomic_bert.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Hidden states (O, hidden)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    x = x if net.token_types is None else x + nn.embedding(batch.types, net.token_types)
    x = nn.layer_norm(x, net.token_embd_norm, hp.layer_norm_eps)
    frequencies = nn.frequencies(hp.rope)
    for i, (block, kv) in enumerate(zip(net.blk, cache, strict=True)):
        if isinstance(block.ffn, Experts) != (i % hp.moe_interval == 1):
            has = "experts" if isinstance(block.ffn, Experts) else "none"
            raise ModelError(f"{NAME}: block {i} has {has}, but 'moe_every_n_layers' is {hp.moe_interval}")
        y = attention(block, hp, x, frequencies, batch, kv)
        x = nn.layer_norm(x + y, block.attn_output_norm, hp.layer_norm_eps)
        x = nn.layer_norm(x + feed_forward(block, hp, x), block.layer_output_norm, hp.layer_norm_eps)
    return nn.rows(x, batch.outputs)


attention = nomic_bert.attention


def feed_forward(block: Block, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    ffn = block.ffn
    if isinstance(ffn, Dense):
        return nn.linear(nn.gelu(nn.linear(x, ffn.ffn_up)), ffn.ffn_down)
    ids, shares = nn.route(nn.linear(x, ffn.ffn_gate_inp), hp.n_experts_used)
    y = nn.experts(nn.gelu(nn.experts(x, ffn.ffn_up_exps, ids)), ffn.ffn_down_exps, ids)
    return nn.weighed(y, shares)


HF_NAMES = {
    **{hf: ours for hf, ours in nomic_bert.HF_NAMES.items() if ".mlp." not in hf},
    "encoder.layers.{}.mlp.fc1": "blk.{}.ffn_up",
    "encoder.layers.{}.mlp.fc2": "blk.{}.ffn_down",
    "encoder.layers.{}.mlp.router.layer": "blk.{}.ffn_gate_inp",
}
HF_TENSORS = {
    "encoder.layers.{}.mlp.experts.mlp.w1": "blk.{}.ffn_up_exps.weight",
    "encoder.layers.{}.mlp.experts.mlp.w2": "blk.{}.ffn_down_exps.weight",
}
HF_IGNORED = nomic_bert.HF_IGNORED
HF_LOST = {"experts.bias": "ggml has no place for what is added after experts"}


def claims(config: Config) -> bool:
    """Whether some blocks have experts."""
    return bool(config.get("moe_every_n_layers"))


def from_hf(name: str, hp: Hparams) -> Transform | tuple[Transform, ...] | None:
    """Experts lie one below the other, both of their matrices with a row for each of their neurons."""
    apart = base.reshape(hp.n_experts, hp.ffn_size, hp.hidden_size)
    if name.endswith(".ffn_down_exps.weight"):
        return apart, base.transpose()
    return apart if name.endswith(".ffn_up_exps.weight") else None


def hparams_from_hf(config: Config) -> Hparams:
    """Nomic BERT's keys, and those of experts."""
    used = config.get("moe_top_k") or config.get("num_experts_per_tok")
    said = {**config, **nomic_bert.renamed_keys(config), "num_experts_per_tok": used}
    positions = config.get("n_positions") or config.get("max_position_embeddings") or TRAINED
    return Hparams.from_hf(NAME, {**said, "max_position_embeddings": min(positions, TRAINED)})
