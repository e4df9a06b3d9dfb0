"""Mamba, and Falcon Mamba, which norms what its steps are made of: no attention, but a memory for each channel.

A step's size dt, and what goes in and out of the memory (B and C), are computed from the token itself. Every channel is
a head of one value. Reference: https://arxiv.org/abs/2312.00752, transformers `modeling_mamba.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Biased, Config, Spec, Transform, Weight
from puna.cache import recurrent
from puna.graph import Tensor

HF_CLASSES = ("MambaForCausalLM", "FalconMambaForCausalLM")
KNOWN = ("state-spaces/mamba-130m-hf", "tiiuae/falcon-mamba-7b")
HF_DEFAULTS = {
    **{"expand": 2, "conv_kernel": 4, "state_size": 16, "layer_norm_epsilon": 1e-5, "time_step_rank": "auto"},
    **{"tie_word_embeddings": True},
}
HF_REQUIRES = {"hidden_act": (None, "silu"), "mixer_rms_eps": (None, 1e-6)}

STEP_EPS = 1e-6
"""Of the norms of Falcon Mamba's steps, for which GGUF has no key."""

LONG = 1 << 20
"""Positions, of which there is no end: as llama.cpp's converter writes it."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Mamba's own: sizes of the channels, of each one's memory, and of what dt is made from."""

    ffn_size: int = 0
    n_heads: int = 0
    norm_eps: float
    ssm_conv: int
    ssm_inner: int
    ssm_state: int
    ssm_rank: int
    ssm_norms: bool = False


@dataclass(frozen=True)
class Mixer:
    """`ssm_in` makes what is kept and its gate; `ssm_x` dt, B and C; the norms may be without weights, or not there."""

    ssm_in: Weight
    ssm_conv1d: Weight
    ssm_x: Weight
    ssm_dt_norm: Weight | None
    ssm_b_norm: Weight | None
    ssm_c_norm: Weight | None
    ssm_dt: Biased
    ssm_a: Annotated[Weight, "ssm_a"]
    ssm_d: Annotated[Weight, "ssm_d"]
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
    """What a block keeps of a sequence: the rows that its convolution looks back on, and each channel's memory."""
    return (hp.ssm_conv - 1, hp.ssm_inner), (hp.ssm_inner, hp.ssm_state, 1)


def caches(hp: Hparams) -> list[Spec]:
    """Nothing for positions."""
    return [recurrent(*memory(hp))] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    eps = STEP_EPS if hp.ssm_norms else 0.0
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + mix(block.mixer, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), batch, kv, eps)
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def mix(block: Mixer, hp: Any, x: Tensor, batch: Batch, kv: KV, eps: float) -> Tensor:
    """(T, hidden) to (T, hidden); dt, B and C are normed unless `eps` is 0."""
    rows, memories = kv.recurrent
    width = hp.ssm_inner
    x, gate = nn.split(nn.linear(x, block.ssm_in), 1, (width, width))
    x = nn.silu(nn.causal_conv1d(x, block.ssm_conv1d, batch, rows))
    parts = nn.split(nn.linear(x, block.ssm_x), 1, (hp.ssm_rank, hp.ssm_state, hp.ssm_state))
    norms = (block.ssm_dt_norm, block.ssm_b_norm, block.ssm_c_norm)
    step, into, out = (nn.rms_norm(y, w, eps) if eps else y for y, w in zip(parts, norms, strict=True))
    step = nn.softplus(nn.linear(step, block.ssm_dt))
    r, k = (nn.shared_heads(y, 1, width) for y in (out, into))
    w, v = (nn.heads(y, width) for y in (step, step * x))
    y = nn.flat(nn.recurrence(r, w, k, v, batch, memories, rates=block.ssm_a.weight))
    return nn.linear(nn.silu_mul(gate, y + x * block.ssm_d.weight), block.ssm_out)


MIXER = {
    f"{part}": f"ssm_{name}"
    for part, name in (("in_proj", "in"), ("conv1d", "conv1d"), ("x_proj", "x"), ("dt_proj", "dt"), ("out_proj", "out"))
}
HF_NAMES = {
    "backbone.embeddings": "token_embd",
    "backbone.norm_f": "output_norm",
    "lm_head": "output",
    "backbone.layers.{}.norm": "blk.{}.attn_norm",
    **{f"backbone.layers.{{}}.mixer.{part}": f"blk.{{}}.{name}" for part, name in MIXER.items()},
}
VECTORS = {"A_log": "ssm_a", "D": "ssm_d"}
HF_TENSORS = {f"backbone.layers.{{}}.mixer.{part}": f"blk.{{}}.{name}" for part, name in VECTORS.items()}


def from_hf(name: str, hp: Any) -> Transform | None:
    """Rates are stored as logarithms; a depthwise convolution loses its axis of length 1."""
    if name.endswith("ssm_conv1d.weight"):
        return base.squeeze()
    return base.negative_exp() if name.endswith("ssm_a") else None


def hparams_from_hf(config: Config) -> Hparams:
    """Sizes follow from the hidden size; there are no heads and no feed-forward parts."""
    size = int(config["hidden_size"])
    rank = config["time_step_rank"]
    known = {
        **{
            **config,
            "intermediate_size": 0,
            "max_position_embeddings": LONG,
            "ssm_inner": int(config["expand"] * size),
        },
        **{"time_step_rank": -(-size // 16) if rank == "auto" else rank, "rms_norm_eps": config["layer_norm_epsilon"]},
        **{"ssm_norms": config.get("model_type") == "falcon_mamba"},
    }
    return Hparams.from_hf("mamba", known)
