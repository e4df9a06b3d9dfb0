"""BERT, an encoder: learned positions, attention both ways, LayerNorm after each half of a block, GELU.

It gives hidden states (O, hidden), or with a classifier its scores (O, labels); pooling is the engine's. RoBERTa,
XLM-RoBERTa and CamemBERT begin their positions after the padding token's id; DistilBERT has no token types.
Reference: https://arxiv.org/abs/1810.04805, transformers `modeling_bert.py`, `modeling_roberta.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from puna import cache as caches_
from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Biased, Config, Spec, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

OFFSET = ("Roberta", "XLMRoberta", "Camembert")
"""Beginnings of classes whose first position is the padding token's id + 1."""

HF_CLASSES = (
    *("BertModel", "BertForMaskedLM", "BertForSequenceClassification", "DistilBertModel", "DistilBertForMaskedLM"),
    *(f"{name}{kind}" for name in OFFSET for kind in ("Model", "ForMaskedLM", "ForSequenceClassification")),
)
KNOWN = (
    "sentence-transformers/all-MiniLM-L6-v2",
    "google-bert/bert-base-uncased",
    "FacebookAI/xlm-roberta-base",
    "distilbert/distilbert-base-uncased",
)
HF_PREFIXES = {"bert.": "", "roberta.": "", "distilbert.": ""}
HF_DEFAULTS = {"layer_norm_eps": 1e-12, "hidden_act": "gelu"}
HF_REQUIRES = {
    **{"hidden_act": ("gelu",), "activation": (None, "gelu")},
    **{"position_embedding_type": (None, "absolute"), "is_decoder": (None, False)},
}
HF_ONLY = {"pooler.dense": "BertForSequenceClassification"}
RANK = 4
"""The `pooling_type` of what scores pairs of texts."""

ACTIVATIONS = ("", "identity", "sigmoid")
"""What makes a score of a logit; unsaid, it is a sigmoid."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """BERT's own; `pooling_type`: 0 none, 1 mean, 2 first token, 4 scores. `position_offset` is for conversion."""

    layer_norm_eps: float
    pooling_type: int = 0
    causal: bool = False
    position_offset: int | None = field(default=None, compare=False)
    output_labels: tuple[str, ...] | None = None
    score_activation: str | None = None


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_q: Biased
    attn_k: Biased
    attn_v: Biased
    attn_output: Biased
    attn_output_norm: Biased
    ffn_up: Biased
    ffn_down: Biased
    layer_output_norm: Biased


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    position_embd: Weight
    token_types: Weight | None
    token_embd_norm: Biased
    blk: list[Block]
    cls: Biased | None
    cls_output: Annotated[Biased | None, "cls.output.weight"]


def caches(hp: Hparams) -> list[Spec]:
    """Nothing outlives a step."""
    return caches_.encoder(hp.n_blocks, hp.n_heads, hp.hidden_size // hp.n_heads)


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Hidden states (O, hidden), or scores (O, labels)."""
    x = nn.embedding(batch.tokens, net.token_embd) + nn.embedding(batch.positions, net.position_embd)
    x = x if net.token_types is None else x + nn.embedding(batch.types, net.token_types)
    x = nn.layer_norm(x, net.token_embd_norm, hp.layer_norm_eps)
    for block, kv in zip(net.blk, cache, strict=True):
        x = nn.layer_norm(x + attention(block, hp, x, batch, kv), block.attn_output_norm, hp.layer_norm_eps)
        x = nn.layer_norm(x + feed_forward(block, x), block.layer_output_norm, hp.layer_norm_eps)
    x = nn.rows(x, batch.outputs)
    x = nn.tanh(nn.linear(x, net.cls)) if net.cls else x
    return nn.linear(x, net.cls_output) if net.cls_output else x


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = (nn.heads(nn.linear(x, w), hp.n_heads) for w in (block.attn_q, block.attn_k, block.attn_v))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=kv.spec.key_size**-0.5), block.attn_output)


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.gelu(nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "encoder.layer.{}.attention.self.query": "blk.{}.attn_q",
    "encoder.layer.{}.attention.self.key": "blk.{}.attn_k",
    "encoder.layer.{}.attention.self.value": "blk.{}.attn_v",
    "encoder.layer.{}.attention.output.dense": "blk.{}.attn_output",
    "encoder.layer.{}.attention.output.LayerNorm": "blk.{}.attn_output_norm",
    "encoder.layer.{}.intermediate.dense": "blk.{}.ffn_up",
    "encoder.layer.{}.output.dense": "blk.{}.ffn_down",
    "encoder.layer.{}.output.LayerNorm": "blk.{}.layer_output_norm",
    "transformer.layer.{}.attention.q_lin": "blk.{}.attn_q",
    "transformer.layer.{}.attention.k_lin": "blk.{}.attn_k",
    "transformer.layer.{}.attention.v_lin": "blk.{}.attn_v",
    "transformer.layer.{}.attention.out_lin": "blk.{}.attn_output",
    "transformer.layer.{}.sa_layer_norm": "blk.{}.attn_output_norm",
    "transformer.layer.{}.ffn.lin1": "blk.{}.ffn_up",
    "transformer.layer.{}.ffn.lin2": "blk.{}.ffn_down",
    "transformer.layer.{}.output_layer_norm": "blk.{}.layer_output_norm",
    "pooler.dense": "cls",
    "classifier": "cls.output",
    "classifier.dense": "cls",
    "classifier.out_proj": "cls.output",
}
HF_TENSORS = {
    f"{hf}.{old}": f"{ours}.{new}"
    for hf, ours in HF_NAMES.items()
    if hf.endswith("LayerNorm")
    for old, new in (("gamma", "weight"), ("beta", "bias"))
}
HF_IGNORED = (
    *("embeddings.position_ids", "cls.predictions", "cls.seq_relationship", "lm_head"),
    *("vocab_transform", "vocab_layer_norm", "vocab_projector"),
)


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """Positions before the first are dropped."""
    if name == "position_embd.weight" and hp.position_offset:
        return base.rows(hp.position_offset, hp.position_offset + hp.context_length)
    return None


def hparams_from_hf(config: Config) -> Hparams:
    """Positions that begin after the padding token's are fewer than the table has rows."""
    hp = Hparams.from_hf("bert", {**config, **scoring(config)})
    if not str(config["architectures"][0]).startswith(OFFSET):
        return hp
    offset = int(config.get("pad_token_id", 1)) + 1
    return replace(hp, position_offset=offset, context_length=hp.context_length - offset)


def scoring(config: Config) -> dict[str, Any]:
    """What a classifier of pairs says of itself: its labels, and what makes a score of a logit; {} for others."""
    if not str(config["architectures"][0]).endswith("ForSequenceClassification"):
        return {}
    said = config.get("sentence_transformers") or {}
    activation = said.get("activation_fn") or config.get("sbert_ce_default_activation_function") or ""
    kind = str(activation).rpartition(".")[2].lower()
    if kind not in ACTIVATIONS:
        raise ModelError(f"bert: scores are made by {activation!r}, which is unknown; known: Identity, Sigmoid")
    labels = {int(i): str(label) for i, label in (config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}).items()}
    ordered = [labels[i] for i in sorted(labels)]
    return {"pooling_type": RANK, "output_labels": ordered, "score_activation": kind or None}
