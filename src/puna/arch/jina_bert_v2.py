"""Jina Embeddings 2, an encoder: BERT without positions, with a bias that falls with distance (ALiBi) both ways, GeGLU.

The embedding models have gate and up in one matrix, the gate first. The model of code, whose gate is last, has norms of
q and k besides, and adds the block's input a second time after attention. Reference: https://arxiv.org/abs/2310.19923.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from puna import nn
from puna.arch import base, bert
from puna.arch.base import KV, Batch, Biased, Config, Transform, Weight
from puna.graph import Tensor

NAME = "jina-bert-v2"
HF_CLASSES = ("JinaBertModel", "JinaBertForMaskedLM")
KNOWN = (
    "jinaai/jina-embeddings-v2-base-en",
    "jinaai/jina-embeddings-v2-small-en",
    "jinaai/jina-embeddings-v2-base-code",
)
HF_PREFIXES = {"bert.": ""}
HF_DEFAULTS = {"layer_norm_eps": 1e-12, "hidden_act": "gelu", "feed_forward_type": "original"}
HF_REQUIRES = {
    **{"position_embedding_type": ("alibi",), "feed_forward_type": ("geglu",), "hidden_act": ("gelu",)},
    **{"is_decoder": (None, False), "add_cross_attention": (None, False), "emb_pooler": (None, "mean")},
}
OF_CODE = "qk-post-norm"
"""In the name of the repository whose code runs the model of code."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Jina BERT's own; `gate_last` is for conversion."""

    layer_norm_eps: float
    pooling_type: int = 0
    causal: bool = False
    gate_last: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Block:
    """Weights of one block; without `ffn_gate` it is a half of `ffn_up`: the last one in the model of code."""

    attn_q: Biased
    attn_k: Biased
    attn_v: Biased
    attn_q_norm: Biased | None
    attn_k_norm: Biased | None
    attn_output: Biased
    attn_output_norm: Biased
    attn_norm_2: Biased | None
    ffn_gate: Weight | None
    ffn_up: Weight
    ffn_down: Biased
    layer_output_norm: Biased


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    token_types: Weight | None
    token_embd_norm: Biased
    blk: list[Block]


caches = bert.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Hidden states (O, hidden)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    x = x if net.token_types is None else x + nn.embedding(batch.types, net.token_types)
    x = nn.layer_norm(x, net.token_embd_norm, hp.layer_norm_eps)
    bias = nn.alibi(hp.n_heads, nn.room(batch), both=True)
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.layer_norm(x + attention(block, hp, x, bias, batch, kv), block.attn_output_norm, hp.layer_norm_eps)
        x = nn.layer_norm(x + y, block.attn_norm_2, hp.layer_norm_eps) if block.attn_norm_2 else y
        x = nn.layer_norm(x + feed_forward(block, hp, x), block.layer_output_norm, hp.layer_norm_eps)
    return nn.rows(x, batch.outputs)


def attention(block: Block, hp: Hparams, x: Tensor, bias: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden); norms are of all heads together."""
    q, k, v = (nn.linear(x, w) for w in (block.attn_q, block.attn_k, block.attn_v))
    q = nn.layer_norm(q, block.attn_q_norm, hp.layer_norm_eps) if block.attn_q_norm else q
    k = nn.layer_norm(k, block.attn_k_norm, hp.layer_norm_eps) if block.attn_k_norm else k
    q, k, v = (nn.heads(y, hp.n_heads) for y in (q, k, v))
    y = nn.attention(q, k, v, batch, kv, scale=kv.spec.key_size**-0.5, bias=bias)
    return nn.linear(y, block.attn_output)


def feed_forward(block: Block, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    up = nn.linear(x, block.ffn_up)
    if block.ffn_gate:
        return nn.linear(nn.gelu(nn.linear(x, block.ffn_gate)) * up, block.ffn_down)
    first, last = nn.split(up, 1, [hp.ffn_size] * 2)
    return nn.linear(first * nn.gelu(last) if block.attn_norm_2 else nn.gelu(first) * last, block.ffn_down)


HF_NAMES = {
    **{hf: ours for hf, ours in bert.HF_NAMES.items() if hf.startswith(("embeddings.", "encoder.layer.{}.attention."))},
    "encoder.layer.{}.attention.self.layer_norm_q": "blk.{}.attn_q_norm",
    "encoder.layer.{}.attention.self.layer_norm_k": "blk.{}.attn_k_norm",
    "encoder.layer.{}.mlp.gated_layers": "blk.{}.ffn_up",
    "encoder.layer.{}.mlp.wo": "blk.{}.ffn_down",
    "encoder.layer.{}.mlp.layernorm": "blk.{}.layer_output_norm",
    "encoder.layer.{}.layer_norm_1": "blk.{}.attn_norm_2",
    "encoder.layer.{}.mlp.up_gated_layer": ("blk.{}.ffn_up", "blk.{}.ffn_gate"),
    "encoder.layer.{}.mlp.down_layer": "blk.{}.ffn_down",
    "encoder.layer.{}.layer_norm_2": "blk.{}.layer_output_norm",
}
HF_IGNORED = (*bert.HF_IGNORED, "pooler.dense")


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """A gate that is last is taken out: of a matrix of both, ggml takes the first half for it."""
    if not hp.gate_last:
        return None
    parts = {"ffn_up": base.rows(0, hp.ffn_size), "ffn_gate": base.rows(hp.ffn_size, 2 * hp.ffn_size)}
    return parts.get(name.split(".")[-2])


def hparams_from_hf(config: Config) -> Hparams:
    """Which of the two repositories' code runs the model is said where it is loaded from."""
    named = f"{config.get('_name_or_path')} {config.get('auto_map')}"
    return Hparams.from_hf(NAME, {**config, "gate_last": OF_CODE in named})
