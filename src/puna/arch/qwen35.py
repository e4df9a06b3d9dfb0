"""Qwen 3.5, text: Qwen 3 Next with one feed-forward network, and the delta rule's parts in matrices of their own.

Rotary positions have sections for the axes of images, which of a text are all the same. ggml has heads of v that share
a q and k not next to each other: i, i + groups ... Reference: https://qwen.ai/blog?id=qwen3.5, transformers
`modeling_qwen3_5.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from puna import nn
from puna.arch import base, mixture, qwen3next
from puna.arch.base import KV, Batch, Config, Transform, Weight
from puna.graph import Tensor

HF_CLASSES = ("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration")
KNOWN = ("Qwen/Qwen3.5-0.8B", "Qwen/Qwen3.5-4B", "Qwen/Qwen3.5-27B")
HF_PREFIXES = {"model.language_model.": "model."}
HF_DEFAULTS = {key: value for key, value in qwen3next.HF_DEFAULTS.items() if key != "norm_topk_prob"} | {
    "num_key_value_heads": 4
}
HF_REQUIRES = qwen3next.HF_REQUIRES
HF_IGNORED = (*qwen3next.HF_IGNORED, "visual")
GGUF_IGNORED = ("v.", "mm.")
caches = qwen3next.caches
SECTIONS = (11, 11, 10)
"""Pairs of a head's turned elements for time, height and width, where config.json leaves them out."""


@dataclass(frozen=True, kw_only=True)
class Hparams(qwen3next.Hparams):
    """Qwen 3 Next's."""

    GGUF_DEFAULTS: ClassVar[Config] = {}

    v_heads_tiled: bool | None = True
    rope_sections: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Delta:
    """Of a block of the delta rule; `ssm_beta` and `ssm_alpha` have a row for each head."""

    attn_qkv: Weight
    attn_gate: Weight
    ssm_beta: Weight
    ssm_alpha: Weight
    ssm_conv1d: Weight
    ssm_dt: Annotated[Weight, "ssm_dt.bias"]
    ssm_a: Annotated[Weight, "ssm_a"]
    ssm_norm: Weight
    ssm_out: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: Delta | qwen3next.Attention
    post_attention_norm: Weight
    ffn: mixture.Dense | mixture.Experts


@dataclass(frozen=True)
class Network(qwen3next.Network):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]  # type: ignore[assignment]  # the delta rule's weights differ


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return qwen3next.decoder(net, hp, batch, cache, mix)


attention = qwen3next.attention


def mix(block: Delta, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    qkv, gate = nn.linear(x, block.attn_qkv), nn.linear(x, block.attn_gate)
    beta, step = nn.linear(x, block.ssm_beta), nn.linear(x, block.ssm_alpha)
    return nn.linear(qwen3next.delta(block, hp, qkv, gate, beta, step, batch, kv), block.ssm_out)


_DELTA = "model.layers.{}.linear_attn."
HF_NAMES = {
    **qwen3next.HF_NAMES,
    f"{_DELTA}in_proj_qkv": "blk.{}.attn_qkv",
    f"{_DELTA}in_proj_z": "blk.{}.attn_gate",
    f"{_DELTA}in_proj_b": "blk.{}.ssm_beta",
    f"{_DELTA}in_proj_a": "blk.{}.ssm_alpha",
}
HF_TENSORS = qwen3next.HF_TENSORS


def from_hf(name: str, hp: Hparams) -> Transform | tuple[Transform, ...] | None:
    """Heads of v come group by group, and go one of each group after another."""
    each, size = hp.ssm_rank // hp.ssm_groups, hp.ssm_inner // hp.ssm_rank
    ones, heads = (base.regroup(hp.ssm_groups, *[rows] * each) for rows in (1, size))
    last = base.regroup_after(2 * hp.ssm_groups * hp.ssm_state, hp.ssm_groups, *[size] * each)
    changes: dict[str, Transform | tuple[Transform, ...]] = {
        "attn_qkv.weight": last,
        "attn_gate.weight": heads,
        "ssm_conv1d.weight": (base.squeeze(), last),
        "ssm_out.weight": (base.transpose(), heads, base.transpose()),
        "ssm_a": (base.negative_exp(), ones),
        **dict.fromkeys(("ssm_beta.weight", "ssm_alpha.weight", "ssm_dt.bias"), ones),
    }
    return changes.get(name.split(".", 2)[-1]) or qwen3next.from_hf(name, hp)


def settings(config: Config) -> dict[str, Any]:
    """As Qwen 3 Next's; sections of rotary positions are always interleaved, which of a text says nothing."""
    said = config.get("rope_parameters") or config.get("rope_scaling") or {}
    turned: Mapping[str, Any] = {k: v for k, v in said.items() if k not in ("mrope_section", "mrope_interleaved")}
    sections = [*(said.get("mrope_section") or SECTIONS), 0]
    known = {**qwen3next.settings(config), "rope_sections": sections, "rope_scaling": None}
    return {**known, "rope_parameters": turned}


def hparams_from_hf(config: Config) -> Hparams:
    """Sizes of the delta rule have names of their own."""
    return Hparams.from_hf("qwen35", settings(config))
