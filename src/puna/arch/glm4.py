"""GLM 4 (0414): norms before and after each half of a block, gate and up in one matrix, half of each head turned.

Rotary positions are in pairs, in HF too. q, k and v may have biases. Reference: https://arxiv.org/abs/2406.12793,
transformers `modeling_glm4.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Weight
from puna.graph import Tensor

HF_CLASSES = ("Glm4ForCausalLM",)
KNOWN = ("zai-org/GLM-4-9B-0414", "zai-org/GLM-4-32B-0414")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1.5625e-7, "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    **{"head_dim": 128, "num_key_value_heads": 2, "tie_word_embeddings": False},
}
HF_REQUIRES = llama.HF_REQUIRES | {"sliding_window": (None,)}
Hparams = llama.Hparams
caches = llama.caches


@dataclass(frozen=True)
class Block:
    """Weights of one block; `ffn_up` is gate over up."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    post_attention_norm: Weight
    ffn_norm: Weight
    ffn_up: Weight
    ffn_down: Weight
    post_ffw_norm: Weight


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope)
    for block, kv in zip(net.blk, cache, strict=True):
        y = attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + nn.rms_norm(y, block.post_attention_norm, hp.norm_eps)
        y = feed_forward(block, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
        x = x + nn.rms_norm(y, block.post_ffw_norm, hp.norm_eps)
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return llama.attention(block, hp, x, frequencies, batch, kv)


def feed_forward(block: Block, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    gate, up = nn.split(nn.linear(x, block.ffn_up), 1, (hp.ffn_size, hp.ffn_size))
    return nn.linear(nn.silu_mul(gate, up), block.ffn_down)


HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q",
    "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v",
    "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.post_self_attn_layernorm": "blk.{}.post_attention_norm",
    "model.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
    "model.layers.{}.mlp.gate_up_proj": "blk.{}.ffn_up",
    "model.layers.{}.mlp.down_proj": "blk.{}.ffn_down",
    "model.layers.{}.post_mlp_layernorm": "blk.{}.post_ffw_norm",
}
HF_IGNORED = llama.HF_IGNORED
