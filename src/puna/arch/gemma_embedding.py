"""EmbeddingGemma, an encoder: Gemma 3 whose tokens see both ways, then two dense layers and the mean.

The dense layers have neither bias nor activation, so they may come before the mean; a file need not have them.
Reference: https://arxiv.org/abs/2509.20354, transformers `modeling_gemma3.py` with `use_bidirectional_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from puna import nn
from puna.arch import gemma3
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.graph import Tensor

NAME = "gemma-embedding"
HF_CLASSES = ("Gemma3TextModel",)
HF_PREFIXES = {"embed_tokens.": "model.embed_tokens.", "layers.": "model.layers.", "norm.": "model.norm."}
HF_DEFAULTS = gemma3.HF_DEFAULTS
HF_REQUIRES = {
    **{**gemma3.HF_REQUIRES, "use_bidirectional_attention": (True,)},
    "dense_modules": (None, "2_Dense", "3_Dense"),
}
Block = gemma3.Block
attention = gemma3.attention


@dataclass(frozen=True, kw_only=True)
class Hparams(gemma3.Hparams):
    """Gemma 3's; `sliding_window` counts both sides."""

    pooling_type: int = 0
    dense_2_in: int | None = None
    dense_2_out: int | None = None
    dense_3_in: int | None = None
    dense_3_out: int | None = None


@dataclass(frozen=True)
class Network(gemma3.Network):
    """Weights of the whole model."""

    dense_2: Weight | None
    dense_3: Weight | None


def caches(hp: Hparams) -> list[Spec]:
    """Nothing outlives a step; windows reach half their size to either side."""
    specs = gemma3.caches(hp)
    return [replace(s, window=s.window // 2 + 1 if s.window else 0, encoder=True) for s in specs]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Hidden states (O, hidden)."""
    x = nn.rms_norm(nn.rows(gemma3.blocks(net, hp, batch, cache), batch.outputs), net.output_norm, hp.norm_eps)
    for dense in (net.dense_2, net.dense_3):
        x = nn.linear(x, dense) if dense else x
    return x


HF_NAMES = gemma3.HF_NAMES | {"2_Dense.linear": "dense_2", "3_Dense.linear": "dense_3"}
from_hf = gemma3.from_hf


def hparams_from_hf(config: Config) -> Hparams:
    """Gemma 3's, and how hidden states become one vector."""
    hp = gemma3.hparams_from_hf(config)
    known: dict[str, Any] = {field.name: getattr(hp, field.name) for field in fields(hp)}
    known |= {f"dense_{i}_{side}": config.get(f"dense_{i}_{side}") for i in (2, 3) for side in ("in", "out")}
    return Hparams(**known, pooling_type=config.get("pooling_type", 0))
