"""ModernBERT, an encoder: rotary positions, norms before each half of a block, GeGLU, mostly windows both ways.

Every third block from the first on sees everything, the others half a window on either side, with a rotary base of
their own. Reference: https://arxiv.org/abs/2412.13663, transformers `modeling_modernbert.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from puna import nn
from puna.arch import base, bert, rope
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.errors import ModelError
from puna.graph import Tensor

NAME = "modern-bert"
HF_CLASSES = ("ModernBertModel", "ModernBertForMaskedLM", "ModernBertForSequenceClassification")
HF_PREFIXES = {"model.": ""}
HF_DEFAULTS = {
    **{"norm_eps": 1e-5, "local_attention": 128, "global_attn_every_n_layers": 3, "hidden_activation": "gelu"},
    **{"global_rope_theta": 160000.0, "local_rope_theta": 10000.0, "classifier_pooling": "cls"},
}
HF_REQUIRES = {
    **{"hidden_activation": ("gelu",), "attention_bias": (False, None), "mlp_bias": (False, None)},
    **{"classifier_activation": (None, "gelu"), "classifier_pooling": ("cls", "mean")},
    "layer_types": (None, "full_attention", "sliding_attention"),
}
MEAN, FIRST = 1, 2
"""Pooling types, as GGUF numbers them."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """ModernBERT's own; `sliding_window` counts both sides. A pattern n: each nth block sees all, or each block's."""

    head_dim: int
    layer_norm_eps: float
    rope: nn.Rope
    rope_theta_local: float = 10000.0
    sliding_window: int = 0
    sliding_window_pattern: int | tuple[bool, ...] = 3
    hidden_activation: str = "gelu"
    pooling_type: int = 0
    classifier_pooling: int | None = None
    output_labels: tuple[str, ...] | None = None
    score_activation: str | None = None
    causal: bool = False

    def slides(self, block: int) -> bool:
        """Whether a block sees a window only."""
        pattern = self.sliding_window_pattern
        if isinstance(pattern, int):
            return self.sliding_window > 0 and block % pattern != 0
        if len(pattern) != self.n_blocks:
            raise ModelError(f"{NAME}: the window pattern has {len(pattern)} blocks, the model {self.n_blocks}")
        return self.sliding_window > 0 and pattern[block]


@dataclass(frozen=True)
class Block:
    """Weights of one block; the first has no norm before its attention."""

    attn_norm: Weight | None
    attn_qkv: Weight
    attn_output: Weight
    ffn_norm: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    token_embd_norm: Weight
    output_norm: Weight
    blk: list[Block]
    cls: Weight | None
    cls_norm: Annotated[Weight | None, "cls.norm.weight"]
    cls_output: Annotated[Weight | None, "cls.output.weight"]


def caches(hp: Hparams) -> list[Spec]:
    """Nothing outlives a step; one more for the mean that a classifier may want."""
    windows = [hp.sliding_window // 2 + 1 if hp.slides(i) else 0 for i in range(hp.n_blocks)]
    specs = [Spec(hp.n_heads, hp.head_dim, hp.head_dim, window, encoder=True) for window in windows]
    return [*specs, nn.mean_cache(hp.hidden_size)] if hp.classifier_pooling == MEAN else specs


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Hidden states (O, hidden), or scores (O, labels)."""
    x = nn.layer_norm(nn.embedding(batch.tokens, net.token_embd), net.token_embd_norm, hp.layer_norm_eps)
    far, near = nn.frequencies(hp.rope), nn.frequencies(nn.Rope(hp.rope_theta_local, hp.rope.dim))
    for i, (block, kv) in enumerate(zip(net.blk, cache, strict=False)):
        y = nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps) if block.attn_norm else x
        x = x + attention(block, hp, y, near if hp.slides(i) else far, batch, kv)
        x = x + feed_forward(block, hp, nn.layer_norm(x, block.ffn_norm, hp.layer_norm_eps))
    x = nn.layer_norm(x, net.output_norm, hp.layer_norm_eps)
    if net.cls is None or net.cls_norm is None or net.cls_output is None:
        return nn.rows(x, batch.outputs)
    x = nn.sequence_mean(x, batch, cache[-1]) if hp.classifier_pooling == MEAN else x
    x = nn.gelu(nn.linear(nn.rows(x, batch.outputs), net.cls))
    return nn.linear(nn.layer_norm(x, net.cls_norm, hp.layer_norm_eps), net.cls_output)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    qkv = nn.split(nn.linear(x, block.attn_qkv), 1, [hp.hidden_size] * 3)
    q, k, v = (nn.heads(y, hp.n_heads) for y in qkv)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(block: Block, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden); gate and up are one matrix."""
    gate, up = nn.split(nn.linear(x, block.ffn_up), 1, [hp.ffn_size] * 2)
    return nn.linear(nn.gelu(gate) * up, block.ffn_down)


HF_NAMES = {
    "embeddings.tok_embeddings": "token_embd",
    "embeddings.norm": "token_embd_norm",
    "layers.{}.attn_norm": "blk.{}.attn_norm",
    "layers.{}.attn.Wqkv": "blk.{}.attn_qkv",
    "layers.{}.attn.Wo": "blk.{}.attn_output",
    "layers.{}.mlp_norm": "blk.{}.ffn_norm",
    "layers.{}.mlp.Wi": "blk.{}.ffn_up",
    "layers.{}.mlp.Wo": "blk.{}.ffn_down",
    "final_norm": "output_norm",
    "head.dense": "cls",
    "head.norm": "cls.norm",
    "classifier": "cls.output",
}
HF_IGNORED = ("decoder",)
HF_ONLY = {"head": "ModernBertForSequenceClassification"}


def hparams_from_hf(config: Config) -> Hparams:
    """Rotary bases and the pattern of windows are said in several ways."""
    said: dict[str, Any] = {"rope_theta": config["global_rope_theta"], **config, **bert.scoring(config)}
    said |= {"layer_norm_eps": config["norm_eps"], "sliding_window": config["local_attention"]}
    said["rope_local_base_freq"] = config["local_rope_theta"]
    if config.get("rope_parameters"):
        said["rope_local_base_freq"] = rope.from_hf(config, 2, "sliding_attention").theta
    said["sliding_window_pattern"] = _pattern(config)
    said["classifier_pooling"] = MEAN if config["classifier_pooling"] == "mean" else FIRST
    return Hparams.from_hf(NAME, said)


def _pattern(config: Config) -> int | tuple[bool, ...]:
    """Each nth block sees all, or which ones do."""
    every: int = config["global_attn_every_n_layers"]
    types: list[str] | None = config.get("layer_types")
    if types is None:
        return every
    slides = [kind == "sliding_attention" for kind in types]
    return next(
        (n for n in range(1, len(slides) + 1) if slides == [i % n != 0 for i in range(len(slides))]), tuple(slides)
    )
