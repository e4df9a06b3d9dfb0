"""Granite 3 with experts: Granite whose blocks choose among experts; Granite 4's also has one that always serves.

Shares are the softmax over those chosen. A checkpoint keeps gates over ups of all experts in one tensor. Reference:
https://huggingface.co/ibm-granite, transformers `modeling_granitemoe.py`, `modeling_granitemoeshared.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from puna.arch import base, granite, mixture
from puna.arch.base import Config, Transform

HF_CLASSES = ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM")
HF_DEFAULTS = granite.HF_DEFAULTS | {"tie_word_embeddings": False, "shared_intermediate_size": 0}
HF_REQUIRES = granite.HF_REQUIRES
HF_IGNORED = granite.HF_IGNORED


@dataclass(frozen=True, kw_only=True)
class Hparams(granite.Hparams):
    """What Granite says of its experts."""

    n_experts: int
    n_experts_used: int
    shared_ffn_size: int | None = None


Block = granite.Block
Network = granite.Network
caches = granite.caches
forward = granite.forward
attention = granite.attention
feed_forward = mixture.feed_forward
HF_NAMES = granite.HF_NAMES | {
    "model.layers.{}.block_sparse_moe.router.layer": "blk.{}.ffn_gate_inp",
    "model.layers.{}.block_sparse_moe.input_linear": ("blk.{}.ffn_gate_exps", "blk.{}.ffn_up_exps"),
    "model.layers.{}.block_sparse_moe.output_linear": "blk.{}.ffn_down_exps",
    "model.layers.{}.shared_mlp.input_linear": ("blk.{}.ffn_gate_shexp", "blk.{}.ffn_up_shexp"),
    "model.layers.{}.shared_mlp.output_linear": "blk.{}.ffn_down_shexp",
}
extra_tensors = granite.extra_tensors


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """Gates stand above ups."""
    size, shared = hp.ffn_size, hp.shared_ffn_size or 0
    parts = {
        "ffn_gate_exps": base.rows(0, size),
        "ffn_up_exps": base.rows(size, 2 * size),
        "ffn_gate_shexp": base.rows(0, shared),
        "ffn_up_shexp": base.rows(shared, 2 * shared),
    }
    return parts.get(name.split(".")[-2]) or granite.from_hf(name, hp)


def hparams_from_hf(config: Config) -> Hparams:
    """Multipliers as Granite's; a shared size of 0 is none."""
    granite.check_multipliers(config)
    known = {**config, "sliding_window": None, "shared_intermediate_size": config["shared_intermediate_size"] or None}
    return Hparams.from_hf("granitemoe", known)
