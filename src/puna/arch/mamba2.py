"""Mamba 2: heads with one rate of forgetting each, their memories a matrix; what goes in and out is shared by groups.

One product makes the gate, what is convolved (values, B and C) and dt. Reference: https://arxiv.org/abs/2405.21060,
transformers `modeling_mamba2.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from puna import nn
from puna.arch import base, mamba
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.cache import recurrent
from puna.graph import Tensor

HF_CLASSES = ("Mamba2ForCausalLM",)
HF_DEFAULTS = {
    **{"expand": 2, "conv_kernel": 4, "state_size": 128, "layer_norm_epsilon": 1e-5, "n_groups": 8},
    **{"tie_word_embeddings": False},
}
LONG = mamba.LONG
ENDLESS = (None, 0.0, float("inf"), "Infinity", {"__float__": "Infinity"})
"""How config.json says that steps are not limited."""
HF_REQUIRES = {"hidden_act": (None, "silu"), "time_step_limit": ENDLESS}
HF_PREFIXES = {"model.backbone.": "backbone.", "model.lm_head": "lm_head"}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Mamba 2's own; `ssm_rank` is how many heads there are."""

    ffn_size: int = 0
    n_heads: int = 0
    norm_eps: float
    ssm_conv: int
    ssm_inner: int
    ssm_state: int
    ssm_rank: int
    ssm_groups: int = 1


@dataclass(frozen=True)
class Mixer:
    """`ssm_norm` (groups, size) is not in all models that have such blocks."""

    ssm_in: Weight
    ssm_conv1d: Weight
    ssm_dt: Annotated[Weight, "ssm_dt.bias"]
    ssm_a: Annotated[Weight, "ssm_a"]
    ssm_d: Annotated[Weight, "ssm_d"]
    ssm_norm: Weight | None
    ssm_out: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: Mixer


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def memory(hp: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a block keeps of a sequence: the rows that its convolution looks back on, and each head's memory."""
    width = hp.ssm_inner + 2 * hp.ssm_groups * hp.ssm_state
    return (hp.ssm_conv - 1, width), (hp.ssm_rank, hp.ssm_state, hp.ssm_inner // hp.ssm_rank)


def caches(hp: Hparams) -> list[Spec]:
    """Nothing for positions."""
    return [recurrent(*memory(hp))] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + mix(block.mixer, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), batch, kv)
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def mix(block: Mixer, hp: Any, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    rows, memories = kv.recurrent
    width, count, shared = hp.ssm_inner, hp.ssm_rank, hp.ssm_groups * hp.ssm_state
    gate, x, step = nn.split(nn.linear(x, block.ssm_in), 1, (width, width + 2 * shared, count))
    x = nn.silu(nn.causal_conv1d(x, block.ssm_conv1d, batch, rows))
    x, into, out = nn.split(x, 1, (width, shared, shared))
    r, k = (nn.shared_heads(y, hp.ssm_groups, count) for y in (out, into))
    w, x = nn.heads(nn.softplus(step + block.ssm_dt.weight), count), nn.heads(x, count)
    y = nn.recurrence(r, w, k, x * w, batch, memories, rates=block.ssm_a.weight) + x * block.ssm_d.weight
    y = nn.silu_mul(gate, nn.flat(y))
    if block.ssm_norm is not None:
        y = nn.flat(nn.rms_norm(nn.heads(y, hp.ssm_groups), None, hp.norm_eps) * block.ssm_norm.weight)
    return nn.linear(y, block.ssm_out)


MIXER = {"in_proj": "ssm_in", "conv1d": "ssm_conv1d", "norm": "ssm_norm", "out_proj": "ssm_out"}
HF_NAMES = {
    "backbone.embeddings": "token_embd",
    "backbone.norm_f": "output_norm",
    "lm_head": "output",
    "backbone.layers.{}.norm": "blk.{}.attn_norm",
    **{f"backbone.layers.{{}}.mixer.{part}": f"blk.{{}}.{name}" for part, name in MIXER.items()},
}
VECTORS = mamba.VECTORS | {"dt_bias": "ssm_dt.bias"}
HF_TENSORS = {f"backbone.layers.{{}}.mixer.{part}": f"blk.{{}}.{name}" for part, name in VECTORS.items()}


def from_hf(name: str, hp: Any) -> Transform | tuple[Transform, ...] | None:
    """As Mamba's; vectors of heads are columns, and the norm has a row for each group."""
    if name.endswith("ssm_norm.weight"):
        return base.reshape(hp.ssm_groups, hp.ssm_inner // hp.ssm_groups)
    if name.endswith("ssm_d"):
        return base.reshape(hp.ssm_rank, 1)
    return (base.negative_exp(), base.reshape(hp.ssm_rank, 1)) if name.endswith("ssm_a") else mamba.from_hf(name, hp)


def hparams_from_hf(config: Config) -> Hparams:
    """Sizes follow from the hidden size; heads are those of the memory."""
    inner = int(config["expand"] * config["hidden_size"])
    known = {
        **{**config, "intermediate_size": 0, "max_position_embeddings": mamba.LONG, "ssm_inner": inner},
        **{"time_step_rank": inner // int(config["head_dim"]), "rms_norm_eps": config["layer_norm_epsilon"]},
    }
    return Hparams.from_hf("mamba2", known)
