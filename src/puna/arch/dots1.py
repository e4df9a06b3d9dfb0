"""dots.llm1: Qwen 3 whose experts are routed as DeepSeek V3's are, beside some that always serve.

Reference: https://arxiv.org/abs/2506.05767, transformers `modeling_dots1.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from puna import nn
from puna.arch import mixture, qwen3
from puna.arch.base import Config

HF_CLASSES = ("Dots1ForCausalLM",)
HF_DEFAULTS = qwen3.HF_DEFAULTS | {
    **{"norm_topk_prob": False, "tie_word_embeddings": False, "routed_scaling_factor": 1.0},
    **{"first_k_dense_replace": 0, "n_shared_experts": 0, "n_group": 1, "topk_group": 1},
}
HF_REQUIRES = {
    **{"hidden_act": ("silu",), "layer_types": (None, "full_attention")},
    **{"scoring_func": (None, "noaux_tc", "sigmoid"), "moe_layer_freq": (None, 1)},
}
HF_IGNORED = qwen3.HF_IGNORED


@dataclass(frozen=True, kw_only=True)
class Hparams(qwen3.Hparams):
    """What dots says of its experts."""

    n_experts: int
    n_experts_used: int
    n_dense_blocks: int = 0
    expert_ffn_size: int | None = None
    n_shared_experts: int = 0
    expert_norm: bool = False
    expert_scale: float = 1.0
    n_expert_groups: int = 1
    n_expert_groups_used: int = 1
    gating: int = nn.SIGMOID


Block = qwen3.Block
Network = qwen3.Network
caches = qwen3.caches
forward = qwen3.forward
attention = qwen3.attention
HF_NAMES = qwen3.HF_NAMES | mixture.HF_NAMES | mixture.HF_SHARED
HF_TENSORS = mixture.HF_TENSORS


def hparams_from_hf(config: Config) -> Hparams:
    """Published ones have no window."""
    return Hparams.from_hf("dots1", {**config, "sliding_window": None, "gating": nn.SIGMOID})
