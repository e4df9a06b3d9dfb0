"""Qwen 1.5 and 2 with experts: Qwen 2 with many small experts, and one that always serves, by its own sigmoid gate.

Shares are a softmax over all experts, which those of the chosen are taken from as they are. Reference:
https://arxiv.org/abs/2407.10671, transformers `modeling_qwen2_moe.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from puna import nn
from puna.arch import mixture, qwen2
from puna.arch.base import Config

HF_CLASSES = ("Qwen2MoeForCausalLM",)
HF_DEFAULTS = qwen2.HF_DEFAULTS | {"norm_topk_prob": False, "tie_word_embeddings": False}
HF_REQUIRES = qwen2.HF_REQUIRES | {"qkv_bias": (None, True)}
HF_IGNORED = qwen2.HF_IGNORED


@dataclass(frozen=True, kw_only=True)
class Hparams(qwen2.Hparams):
    """What Qwen 2 says of its experts."""

    n_experts: int
    n_experts_used: int
    expert_ffn_size: int | None = None
    shared_ffn_size: int | None = None
    expert_norm: bool = False
    gating = nn.SOFTMAX


Block = qwen2.Block
Network = qwen2.Network
caches = qwen2.caches
forward = qwen2.forward
attention = qwen2.attention


_PARTS = ("gate", "up", "down")
HF_NAMES = {
    **qwen2.HF_NAMES,
    **mixture.HF_NAMES,
    "model.layers.{}.mlp.shared_expert_gate": "blk.{}.ffn_gate_inp_shexp",
    **{f"model.layers.{{}}.mlp.shared_expert.{part}_proj": f"blk.{{}}.ffn_{part}_shexp" for part in _PARTS},
}


def hparams_from_hf(config: Config) -> Hparams:
    """A window that `use_sliding_window` leaves off is none."""
    return Hparams.from_hf("qwen2moe", {**config, "sliding_window": None})
