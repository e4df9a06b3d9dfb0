"""Nemotron 3: Nemotron-H whose feed-forward blocks choose among experts of squared ReLU.

Another one always serves. Experts may work on fewer rows than hidden, which a matrix before and one after them change.
Scores are sigmoids. Reference: https://arxiv.org/abs/2512.20848, transformers `modeling_nemotron_h.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from puna import nn
from puna.arch import base, nemotron_h
from puna.arch.base import KV, Batch, Config, Weight
from puna.graph import Tensor

HF_CLASSES = nemotron_h.HF_CLASSES
KNOWN = ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",)
HF_DEFAULTS = nemotron_h.HF_DEFAULTS | {
    **{"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "norm_topk_prob": True},
    **{"routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1},
}
HF_REQUIRES = nemotron_h.HF_REQUIRES
HF_PREFIXES = nemotron_h.HF_PREFIXES
HF_IGNORED = ("mtp",)
caches = nemotron_h.caches
from_hf = nemotron_h.from_hf


@dataclass(frozen=True, kw_only=True)
class Hparams(nemotron_h.Hparams):
    """What Nemotron says of its experts; `latent_size` is what their rows have, if not as many as hidden."""

    n_experts: int
    n_experts_used: int
    expert_ffn_size: int | None = None
    shared_ffn_size: int | None = None
    n_shared_experts: int = 1
    expert_norm: bool = True
    expert_scale: float = 1.0
    n_expert_groups: int = 1
    n_expert_groups_used: int = 1
    latent_size: int | None = None
    n_nextn_blocks: int | None = None

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """GGUF counts blocks that predict further tokens, which come last."""
        hp = super().from_gguf(arch, metadata)
        count = hp.n_blocks - (hp.n_nextn_blocks or 0)
        return replace(hp, n_blocks=count, ffn_size=hp.ffn_size[:count], n_kv_heads=hp.n_kv_heads[:count])


@dataclass(frozen=True)
class Experts:
    """Of a block with experts."""

    ffn_gate_inp: Weight
    exp_probs_b: Annotated[Weight, "exp_probs_b.bias"]
    ffn_latent_down: Weight | None
    ffn_up_exps: Weight
    ffn_down_exps: Weight
    ffn_latent_up: Weight | None
    ffn_up_shexp: Weight
    ffn_down_shexp: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: nemotron_h.Mixer | nemotron_h.Attention | nemotron_h.Plain | Experts


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return nemotron_h.decoder(net, hp, batch, cache, lambda mixer, x: feed_forward(mixer, hp, x))


attention = nemotron_h.attention


def feed_forward(block: Any, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden), by the one network or by the chosen experts and the one that always serves."""
    if not isinstance(block, Experts):
        return nemotron_h.feed_forward(block, x)
    ids, shares = nn.route(
        nn.linear(x, block.ffn_gate_inp),
        hp.n_experts_used,
        gating=nn.SIGMOID,
        bias=block.exp_probs_b,
        groups=hp.n_expert_groups,
        groups_used=hp.n_expert_groups_used,
        normed=hp.expert_norm,
        scale=hp.expert_scale,
    )
    y = nn.linear(x, block.ffn_latent_down) if block.ffn_latent_down else x
    y = nn.experts(nn.relu_squared(nn.experts(y, block.ffn_up_exps, ids)), block.ffn_down_exps, ids)
    y = nn.weighed(y, shares)
    y = nn.linear(y, block.ffn_latent_up) if block.ffn_latent_up else y
    return y + nn.linear(nn.relu_squared(nn.linear(x, block.ffn_up_shexp)), block.ffn_down_shexp)


_BLOCK = "backbone.layers.{}.mixer."
HF_NAMES = {
    **nemotron_h.HF_NAMES,
    f"{_BLOCK}gate": "blk.{}.ffn_gate_inp",
    f"{_BLOCK}fc1_latent_proj": "blk.{}.ffn_latent_down",
    f"{_BLOCK}fc2_latent_proj": "blk.{}.ffn_latent_up",
    **{f"{_BLOCK}experts.{{}}.{part}_proj": f"blk.{{}}.ffn_{part}_exps" for part in ("up", "down")},
    **{f"{_BLOCK}shared_experts.{part}_proj": f"blk.{{}}.ffn_{part}_shexp" for part in ("up", "down")},
}
HF_TENSORS = {**nemotron_h.HF_TENSORS, f"{_BLOCK}gate.e_score_correction_bias": "blk.{}.exp_probs_b.bias"}


def claims(config: Config) -> bool:
    """Whether a block has experts."""
    return not nemotron_h.claims(config)


def hparams_from_hf(config: Config) -> Hparams:
    """The expert that always serves has a size of its own."""
    known = {
        **nemotron_h.settings(config),
        "shared_intermediate_size": config.get("moe_shared_expert_intermediate_size"),
    }
    return Hparams.from_hf("nemotron_h_moe", known)
