"""Falcon 7B, 40B, 180B and 11B: attention and a GELU network side by side, without biases; the whole head is turned.

HF has the q of a group beside its k and v. The 40B and 180B norm the input of each half by itself (`attn_norm_2` is
attention's). GELU is the exact one. ALiBi, biases and halves one after another (falcon-rw) are refused. Falcon 3 is a
Llama. Reference: https://arxiv.org/abs/2311.16867, transformers `modeling_falcon.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, gptneox
from puna.arch.base import KV, Batch, Biased, Config, Spec, Transform, Weight
from puna.graph import Tensor

HF_CLASSES = ("FalconForCausalLM",)
KNOWN = ("tiiuae/falcon-7b", "tiiuae/falcon-40b", "tiiuae/falcon-11B")
HF_DEFAULTS = {
    **{"activation": "gelu", "layer_norm_epsilon": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 2048},
    **{"tie_word_embeddings": True},
}
HF_REQUIRES = {
    "activation": ("gelu",),
    "alibi": (None, False),
    "bias": (None, False),
    "parallel_attn": (None, True),
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Falcon's own; `tensor_layout` says that q, k and v are one over another."""

    n_kv_heads: int
    head_dim: int
    layer_norm_eps: float
    rope: nn.Rope
    tensor_layout: str = "jploski"


@dataclass(frozen=True)
class Block:
    """Weights of one block; `attn_qkv` is q over k over v."""

    attn_norm: Biased
    attn_norm_2: Biased | None
    attn_qkv: Weight
    attn_output: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    output_norm: Biased
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """All blocks alike."""
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps)
        z = nn.layer_norm(x, block.attn_norm_2, hp.layer_norm_eps) if block.attn_norm_2 else y
        x = x + attention(block, hp, z, batch, kv) + feed_forward(block, y)
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    counts = (hp.n_heads, hp.n_kv_heads, hp.n_kv_heads)
    q, k, v = nn.split(nn.heads(nn.linear(x, block.attn_qkv), sum(counts)), 1, counts)
    frequencies = nn.frequencies(hp.rope)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


feed_forward = gptneox.feed_forward
HF_NAMES = {
    "transformer.word_embeddings": "token_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
    "transformer.h.{}.input_layernorm": "blk.{}.attn_norm",
    "transformer.h.{}.ln_mlp": "blk.{}.attn_norm",
    "transformer.h.{}.ln_attn": "blk.{}.attn_norm_2",
    "transformer.h.{}.self_attention.query_key_value": "blk.{}.attn_qkv",
    "transformer.h.{}.self_attention.dense": "blk.{}.attn_output",
    "transformer.h.{}.mlp.dense_h_to_4h": "blk.{}.ffn_up",
    "transformer.h.{}.mlp.dense_4h_to_h": "blk.{}.ffn_down",
}
HF_IGNORED = ("self_attention.rotary_emb.inv_freq",)


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """q over k over v, instead of those of each group together."""
    sizes = (hp.n_heads // hp.n_kv_heads * hp.head_dim, hp.head_dim, hp.head_dim)
    return base.regroup(hp.n_kv_heads, *sizes) if ".attn_qkv." in name else None


def hparams_from_hf(config: Config) -> Hparams:
    """One k and v for all heads, unless the config is of the new decoder or says that there are several."""
    several = config.get("new_decoder_architecture") or not config.get("multi_query", True)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    of_its_own = {
        "num_key_value_heads": (config.get("num_kv_heads") or heads) if several else 1,
        "ffn_hidden_size": config.get("ffn_hidden_size") or 4 * hidden,
    }
    return Hparams.from_hf("falcon", {**config, **of_its_own})
