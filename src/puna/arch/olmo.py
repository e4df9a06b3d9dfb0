"""OLMo 1: Llama whose LayerNorms have no weights, and whose q, k and v may be clipped.

Reference: https://arxiv.org/abs/2402.00838, transformers `modeling_olmo.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.graph import Tensor

HF_CLASSES = ("OlmoForCausalLM",)
KNOWN = ("allenai/OLMo-1B-hf", "allenai/OLMo-7B-hf")
HF_DEFAULTS = {"hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": False}
HF_REQUIRES = llama.HF_REQUIRES


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """OLMo's own; `clip_qkv` 0: nothing is clipped."""

    n_kv_heads: int
    head_dim: int
    layer_norm_eps: float
    rope: nn.Rope
    clip_qkv: float | None = None


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; without `output` the embedding serves."""

    token_embd: Weight
    output: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """All blocks alike."""
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.layer_norm(x, None, hp.layer_norm_eps), batch, kv)
        x = x + feed_forward(block, nn.layer_norm(x, None, hp.layer_norm_eps))
    x = nn.layer_norm(nn.rows(x, batch.outputs), None, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    parts = [nn.linear(x, w) for w in (block.attn_q, block.attn_k, block.attn_v)]
    if hp.clip_qkv:
        parts = [nn.clamp(y, hp.clip_qkv) for y in parts]
    q, k, v = (nn.heads(y, n) for y, n in zip(parts, (hp.n_heads, hp.n_kv_heads, hp.n_kv_heads), strict=True))
    frequencies = nn.frequencies(hp.rope)
    q, k = (nn.rope(y, batch.positions, frequencies, style="pairs", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


feed_forward = llama.feed_forward
HF_NAMES = llama.HF_NAMES
HF_IGNORED = llama.HF_IGNORED
from_hf = llama.from_hf


def hparams_from_hf(config: Config) -> Hparams:
    """The epsilon is that of the code, whatever a config says."""
    return Hparams.from_hf("olmo", {**config, "layer_norm_eps": 1e-5})
