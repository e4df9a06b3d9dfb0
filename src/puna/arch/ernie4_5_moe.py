"""ERNIE 4.5 with experts: ERNIE 4.5 whose later blocks choose among experts, beside some that always serve.

Scores are a softmax over all experts; a bias chooses but does not weigh, and shares sum to 1. Reference:
https://arxiv.org/abs/2509.21356, transformers `modeling_ernie4_5_moe.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from puna import nn
from puna.arch import ernie4_5, mixture
from puna.arch.base import Config
from puna.errors import ModelError

NAME = "ernie4_5-moe"
HF_CLASSES = ("Ernie4_5_MoeForCausalLM",)
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "num_key_value_heads": 4, "moe_k": 6},
    **{"tie_word_embeddings": True, "moe_num_experts": 64, "moe_num_shared_experts": 2, "moe_layer_interval": 1},
    **{"moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_intermediate_size": 1536, "use_bias": False},
}
HF_REQUIRES = {
    **{"hidden_act": ("silu",), "sliding_window": (None,), "compression_ratio": (None, 1.0)},
    **{"moe_gate": (None, "topk", "top2_fused", "topk_fused"), "moe_use_aux_free": (None, True)},
}
HF_IGNORED = (*ernie4_5.HF_IGNORED, "mtp_block", "mtp_emb_norm", "mtp_hidden_norm", "mtp_linear_proj")


@dataclass(frozen=True, kw_only=True)
class Hparams(ernie4_5.Hparams):
    """What ERNIE says of its experts."""

    GGUF_DEFAULTS: ClassVar = {"expert_weights_norm": True}

    n_experts: int
    n_experts_used: int
    n_dense_blocks: int = 0
    expert_interval: int = 1
    expert_ffn_size: int | None = None
    n_shared_experts: int = 0
    shared_ffn_size: int | None = None
    expert_norm: bool
    gating = nn.SOFTMAX


Block = ernie4_5.Block
Network = ernie4_5.Network
caches = ernie4_5.caches
forward = ernie4_5.forward
attention = ernie4_5.attention
HF_NAMES = ernie4_5.HF_NAMES | mixture.HF_NAMES | mixture.HF_SHARED
HF_TENSORS = {"model.layers.{}.mlp.moe_statics.e_score_correction_bias": "blk.{}.exp_probs_b.bias"}


def hparams_from_hf(config: Config) -> Hparams:
    """Keys of experts have names of their own; ModelError where the last blocks have none."""
    if config["moe_layer_end_index"] not in (-1, config["num_hidden_layers"] - 1):
        raise ModelError(f"{NAME}: config.json: 'moe_layer_end_index' is {config['moe_layer_end_index']}; -1 works")
    size, count = int(config["moe_intermediate_size"]), int(config["moe_num_shared_experts"])
    known = {
        **{**config, "num_experts": config["moe_num_experts"], "num_experts_per_tok": config["moe_k"]},
        **{"first_k_dense_replace": config["moe_layer_start_index"], "n_shared_experts": count},
        **{"norm_topk_prob": True, "shared_intermediate_size": size * count or None},
    }
    return Hparams.from_hf(NAME, known)
