"""Gemma 2: Gemma with norms after each half of a block too, bounded scores and logits, a window on every other block.

Reference: https://arxiv.org/abs/2408.00118, transformers `modeling_gemma2.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from puna import nn
from puna.arch import gemma
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("Gemma2ForCausalLM",)
KNOWN = ("google/gemma-2-2b-it", "google/gemma-2-9b", "google/gemma-2-27b")
HF_DEFAULTS = gemma.HF_DEFAULTS | {
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096},
    **{"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
}
HF_REQUIRES = gemma.HF_REQUIRES | {
    "hidden_activation": (None, "gelu_pytorch_tanh"),
    "layer_types": (None, "full_attention", "sliding_attention"),
}
BLOCKS_OF_27B = 46
"""The size whose files do not say that its scores go by hidden / heads."""


@dataclass(frozen=True, kw_only=True)
class Hparams(gemma.Hparams):
    """Gemma 2's own."""

    sliding_window: int = 4096
    attention_softcap: float | None = None
    final_softcap: float | None = None
    attention_scale: float | None = None

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        size = self.hidden_size // self.n_heads if self.n_blocks == BLOCKS_OF_27B else self.head_dim
        return self.attention_scale or size**-0.5


@dataclass(frozen=True)
class Block(gemma.Block):
    """Weights of one block."""

    post_attention_norm: Weight
    post_ffw_norm: Weight


@dataclass(frozen=True)
class Network(gemma.Network):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """A window for the first block and every other one."""
    windows = (0 if i % 2 else hp.sliding_window for i in range(hp.n_blocks))
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, window) for window in windows]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd) * hp.hidden_size**0.5
    for block, kv in zip(net.blk, cache, strict=True):
        y = attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), batch, kv)
        x = x + nn.rms_norm(y, block.post_attention_norm, hp.norm_eps)
        y = gemma.feed_forward(block, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
        x = x + nn.rms_norm(y, block.post_ffw_norm, hp.norm_eps)
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    logits = nn.linear(x, net.output or net.token_embd)
    return nn.softcap(logits, hp.final_softcap) if hp.final_softcap else logits


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return gemma.attention(block, hp, x, batch, kv, scale=hp.scale, softcap=hp.attention_softcap)


HF_NAMES = gemma.HF_NAMES | {
    "model.layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm",
    "model.layers.{}.pre_feedforward_layernorm": "blk.{}.ffn_norm",
    "model.layers.{}.post_feedforward_layernorm": "blk.{}.post_ffw_norm",
}
from_hf = gemma.from_hf


def hparams_from_hf(config: Config) -> Hparams:
    """GGUF has no key for which blocks have a window: they alternate."""
    types: Any = config.get("layer_types") or ()
    if any((kind == "full_attention") is not bool(i % 2) for i, kind in enumerate(types)):
        raise ModelError(f"gemma2: config.json: 'layer_types' is {types}; sliding and full in turn would work")
    hp = Hparams.from_hf("gemma2", config)
    scale = float(config["query_pre_attn_scalar"]) ** -0.5
    return hp if abs(scale - hp.scale) < 1e-9 else replace(hp, attention_scale=scale)
