"""Qwen 3.5 with experts, text: Qwen 3.5 whose blocks choose among experts, and have one that always serves.

Published files have gates over ups of all experts in one tensor, or each expert's matrices. Reference:
https://qwen.ai/blog?id=qwen3.5, transformers `modeling_qwen3_5_moe.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from puna.arch import base, qwen35
from puna.arch.base import Config, Transform

HF_CLASSES = ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration")
KNOWN = ("Qwen/Qwen3.5-35B-A3B", "Qwen/Qwen3.5-397B-A17B")
HF_PREFIXES = qwen35.HF_PREFIXES
HF_DEFAULTS = qwen35.HF_DEFAULTS | {"norm_topk_prob": True, "num_key_value_heads": 2}
HF_REQUIRES = qwen35.HF_REQUIRES | {"norm_topk_prob": (True,)}
HF_IGNORED = qwen35.HF_IGNORED
GGUF_IGNORED = qwen35.GGUF_IGNORED


@dataclass(frozen=True, kw_only=True)
class Hparams(qwen35.Hparams):
    """Shares of experts sum to 1, which ggml has no key for."""

    GGUF_DEFAULTS: ClassVar[Config] = {"expert_weights_norm": True}


Block = qwen35.Block
Network = qwen35.Network
caches = qwen35.caches
forward = qwen35.forward
attention = qwen35.attention
HF_NAMES = qwen35.HF_NAMES
HF_TENSORS = {
    **qwen35.HF_TENSORS,
    "model.layers.{}.mlp.experts.gate_up_proj": ("blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight"),
    "model.layers.{}.mlp.experts.down_proj": "blk.{}.ffn_down_exps.weight",
}


def from_hf(name: str, hp: Hparams) -> Transform | tuple[Transform, ...] | None:
    """Gates stand above ups where they are in one tensor."""
    size = hp.expert_ffn_size or 0
    parts = {"ffn_gate_exps": base.rows(0, size), "ffn_up_exps": base.last_rows(size)}
    return parts.get(name.split(".")[-2]) or qwen35.from_hf(name, hp)


def hparams_from_hf(config: Config) -> Hparams:
    """As Qwen 3.5's."""
    return Hparams.from_hf("qwen35moe", qwen35.settings(config))
