"""Qwen 3 with experts: Qwen 3 whose shares are a softmax over all experts, usually made to sum to 1.

ggml has no key for shares that are not; Puna writes ggml's key for it, which llama.cpp does not read here. Which blocks
have experts, the tensors say. Reference: https://arxiv.org/abs/2505.09388, transformers `modeling_qwen3_moe.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from puna import nn
from puna.arch import mixture, qwen3
from puna.arch.base import Config

HF_CLASSES = ("Qwen3MoeForCausalLM",)
HF_DEFAULTS = qwen3.HF_DEFAULTS | {"norm_topk_prob": False, "tie_word_embeddings": False}
HF_REQUIRES = qwen3.HF_REQUIRES
HF_NAMES = qwen3.HF_NAMES | mixture.HF_NAMES
HF_IGNORED = qwen3.HF_IGNORED


@dataclass(frozen=True, kw_only=True)
class Hparams(qwen3.Hparams):
    """What Qwen 3 says of its experts."""

    GGUF_DEFAULTS: ClassVar = {"expert_weights_norm": True}

    n_experts: int
    n_experts_used: int
    expert_ffn_size: int | None = None
    expert_norm: bool
    gating = nn.SOFTMAX


Block = qwen3.Block
Network = qwen3.Network
caches = qwen3.caches
forward = qwen3.forward
attention = qwen3.attention


def hparams_from_hf(config: Config) -> Hparams:
    """A window that `use_sliding_window` leaves off is none."""
    return Hparams.from_hf("qwen3moe", {**config, "sliding_window": None})
