"""LFM2 with experts: after a few dense blocks, each token goes to some of many small networks.

Their shares are sigmoids, which sum to 1 over those chosen; a bias chooses but does not weigh. Reference:
https://huggingface.co/LiquidAI/LFM2-8B-A1B, transformers `modeling_lfm2_moe.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puna import nn
from puna.arch import lfm2, mixture
from puna.arch.base import Config, Weight

HF_CLASSES = ("Lfm2MoeForCausalLM",)
KNOWN = ("LiquidAI/LFM2-8B-A1B", "LiquidAI/LFM2-24B-A2B")
HF_DEFAULTS = {
    **{"norm_eps": 1e-5, "rope_theta": 1000000.0, "conv_bias": False, "conv_L_cache": 3, "num_key_value_heads": 8},
    **{"num_dense_layers": 2, "tie_word_embeddings": True},
}
HF_REQUIRES = {
    **lfm2.HF_REQUIRES,
    **{"norm_topk_prob": (None, True), "routed_scaling_factor": (None, 1), "use_expert_bias": (None, True)},
}


@dataclass(frozen=True, kw_only=True)
class Hparams(lfm2.Hparams):
    """What LFM2 says of its experts."""

    n_experts: int
    n_experts_used: int
    n_dense_blocks: int = 0
    expert_ffn_size: int
    gating: int = nn.SIGMOID
    expert_norm = True
    expert_norm_eps = 1e-6


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: lfm2.Attention | lfm2.ShortConv
    ffn_norm: Weight
    ffn: mixture.Dense | mixture.Experts


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; the last norm has the name of the first. Without `output` the embedding serves."""

    token_embd: Weight
    token_embd_norm: Weight
    output: Weight | None
    blk: Sequence[Block]


caches = lfm2.caches
forward = lfm2.forward
attention = lfm2.attention
convolution = lfm2.convolution


_EXPERT = "model.layers.{}.feed_forward.experts.{}"
HF_NAMES: dict[str, Any] = {
    **lfm2.HF_NAMES,
    "model.layers.{}.feed_forward.gate": "blk.{}.ffn_gate_inp",
    **{f"{_EXPERT}.{hf}": f"blk.{{}}.ffn_{part}_exps" for hf, part in (("w1", "gate"), ("w2", "down"), ("w3", "up"))},
}
HF_TENSORS = {"model.layers.{}.feed_forward.expert_bias": "blk.{}.exp_probs_b.bias"}
from_hf = lfm2.from_hf


def hparams_from_hf(config: Config) -> Hparams:
    """Which blocks attend is said block by block."""
    heads = config["num_key_value_heads"]
    each = [heads if kind == "full_attention" else 0 for kind in config["layer_types"]]
    more = {"num_key_value_heads": each, "first_k_dense_replace": config["num_dense_layers"], "gating": nn.SIGMOID}
    return Hparams.from_hf("lfm2moe", {**config, **more})
