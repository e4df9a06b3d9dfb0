"""BERT, an encoder: learned positions, attention both ways, LayerNorm after each half of a block, GELU.

It gives hidden states (O, hidden); pooling them into an embedding is the engine's. Every token is of type 0.
Reference: https://arxiv.org/abs/1810.04805, transformers `modeling_bert.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import cache as caches_
from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Biased, Spec, Weight
from puna.graph import Tensor, constant

HF_CLASSES = ("BertModel",)
HF_PREFIXES = {"bert.": ""}
HF_REQUIRES = {"hidden_act": ("gelu",), "position_embedding_type": (None, "absolute"), "is_decoder": (None, False)}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """BERT's own; `pooling_type`: 0 none, 1 mean, 2 first token."""

    layer_norm_eps: float
    pooling_type: int = 0
    causal: bool = False


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
    token_types: Weight
    token_embd_norm: Biased
    blk: list[Block]


def caches(hp: Hparams) -> list[Spec]:
    """Nothing outlives a step."""
    return caches_.encoder(hp.n_blocks, hp.n_heads, hp.hidden_size // hp.n_heads)


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Hidden states (O, hidden)."""
    x = nn.embedding(batch.tokens, net.token_embd) + nn.embedding(batch.positions, net.position_embd)
    x = nn.layer_norm(x + nn.embedding(constant([0]), net.token_types), net.token_embd_norm, hp.layer_norm_eps)
    for block, kv in zip(net.blk, cache, strict=True):
        x = nn.layer_norm(x + attention(block, hp, x, batch, kv), block.attn_output_norm, hp.layer_norm_eps)
        x = nn.layer_norm(x + feed_forward(block, x), block.layer_output_norm, hp.layer_norm_eps)
    return nn.rows(x, batch.outputs)


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
}
HF_IGNORED = ("embeddings.position_ids", "pooler.dense")
