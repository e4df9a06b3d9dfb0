"""Nemotron 3 and 4, Minitron: LayerNorms that multiply by 1 + w, one network of squared ReLU, half of each head turned.

Files hold 1 + w. Rotary positions are in halves. Reference: https://arxiv.org/abs/2402.16819, transformers
`modeling_nemotron.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base, starcoder2
from puna.arch.base import KV, Batch, Biased, Config, Transform, Weight
from puna.graph import Tensor

HF_CLASSES = ("NemotronForCausalLM",)
KNOWN = (
    "nvidia/Minitron-4B-Base",
    "nvidia/Nemotron-Mini-4B-Instruct",
)
HF_DEFAULTS = {"hidden_act": "relu2", "norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False}
HF_REQUIRES = {"hidden_act": ("relu2",), "layer_types": (None, "full_attention"), "factor": (None,)}
Hparams = starcoder2.Hparams


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Biased
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    ffn_norm: Biased
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    output_norm: Biased
    blk: Sequence[Block]


caches = starcoder2.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps), batch, kv)
        x = x + feed_forward(block, nn.layer_norm(x, block.ffn_norm, hp.layer_norm_eps))
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd)


attention = starcoder2.attention


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.relu_squared(nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = starcoder2.HF_NAMES | {
    "model.layers.{}.mlp.up_proj": "blk.{}.ffn_up",
    "model.layers.{}.mlp.down_proj": "blk.{}.ffn_down",
}
HF_IGNORED = starcoder2.HF_IGNORED


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """Norms multiply by 1 + w."""
    return base.plus_one() if name.endswith("_norm.weight") else None


def hparams_from_hf(config: Config) -> Hparams:
    """Half of each head is turned where nothing says; there is no window."""
    part = config.get("partial_rotary_factor") or 0.5
    of_its_own = {"partial_rotary_factor": part, "layer_norm_eps": config["norm_eps"], "sliding_window": None}
    return Hparams.from_hf("nemotron", {**config, **of_its_own})
