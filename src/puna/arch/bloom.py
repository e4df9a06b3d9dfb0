"""BLOOM: no positions but a bias that falls with distance (ALiBi), LayerNorms, one GELU network, a normed embedding.

HF has q, k and v of each head together. The embedding is tied. Reference: https://arxiv.org/abs/2211.05100,
transformers `modeling_bloom.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, gpt2
from puna.arch.base import KV, Batch, Biased, Config, Transform, Weight
from puna.graph import Tensor

HF_CLASSES = ("BloomForCausalLM",)
KNOWN = (
    "bigscience/bloom-560m",
    "bigscience/bloomz-1b7",
    "bigscience/bloom-7b1",
)
HF_PREFIXES = {"transformer.": ""}
HF_DEFAULTS = {"layer_norm_epsilon": 1e-5, "seq_length": 2048, "tie_word_embeddings": True}
HF_REQUIRES = {"apply_residual_connection_post_layernorm": (None, False)}


@dataclass(frozen=True, kw_only=True)
class Hparams(gpt2.Hparams):
    """BLOOM's own."""

    n_kv_heads: int


@dataclass(frozen=True)
class Block(gpt2.Block):
    """Weights of one block; `attn_qkv` is q over k over v."""


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; without `output` the embedding serves."""

    token_embd: Weight
    token_embd_norm: Biased
    output_norm: Biased
    output: Weight | None
    blk: Sequence[Block]


caches = gpt2.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.layer_norm(nn.embedding(batch.tokens, net.token_embd), net.token_embd_norm, hp.layer_norm_eps)
    bias = nn.alibi(hp.n_heads, nn.room(batch))
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps), bias, batch, kv)
        x = x + feed_forward(block, nn.layer_norm(x, block.ffn_norm, hp.layer_norm_eps))
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, bias: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.split(nn.heads(nn.linear(x, block.attn_qkv), 3 * hp.n_heads), 1, (hp.n_heads,) * 3)
    y = nn.attention(q, k, v, batch, kv, scale=kv.spec.key_size**-0.5, bias=bias)
    return nn.linear(y, block.attn_output)


feed_forward = gpt2.feed_forward
HF_NAMES = {
    "word_embeddings": "token_embd",
    "word_embeddings_layernorm": "token_embd_norm",
    "ln_f": "output_norm",
    "lm_head": "output",
    "h.{}.input_layernorm": "blk.{}.attn_norm",
    "h.{}.self_attention.query_key_value": "blk.{}.attn_qkv",
    "h.{}.self_attention.dense": "blk.{}.attn_output",
    "h.{}.post_attention_layernorm": "blk.{}.ffn_norm",
    "h.{}.mlp.dense_h_to_4h": "blk.{}.ffn_up",
    "h.{}.mlp.dense_4h_to_h": "blk.{}.ffn_down",
}


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """q over k over v, instead of those of each head together."""
    return base.regroup(hp.n_heads, *(hp.hidden_size // hp.n_heads,) * 3) if ".attn_qkv." in name else None


def hparams_from_hf(config: Config) -> Hparams:
    """The network is as wide as four embeddings, whose size has an older name."""
    size = config.get("n_embed") or config["hidden_size"]
    return Hparams.from_hf("bloom", {**config, "hidden_size": size, "intermediate_size": 4 * size})
