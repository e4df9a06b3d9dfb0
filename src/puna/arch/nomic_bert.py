"""Nomic Embed, an encoder: BERT with rotary positions, one matrix for q, k and v, and a gated SiLU without biases.

Norms come after each half of a block. Published configurations say a longer context than the model was trained for,
to be reached by stretching positions; here it is the trained one. Reference: https://arxiv.org/abs/2402.01613,
transformers `modeling_nomic_bert.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puna import cache as caches_
from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Biased, Config, Spec, Weight
from puna.graph import Tensor

NAME = "nomic-bert"
HF_CLASSES = ("NomicBertModel", "NomicBertForMaskedLM")
HF_PREFIXES = {"nomic_bert.": ""}
HF_DEFAULTS = {"layer_norm_eps": 1e-12, "rope_theta": 1000.0, "hidden_act": "silu"}
HF_REQUIRES = {
    **{"hidden_act": ("silu",), "activation_function": (None, "swiglu"), "prenorm": (None, False)},
    **{"qkv_proj_bias": (None, False), "mlp_fc1_bias": (None, False), "mlp_fc2_bias": (None, False)},
    **{"rotary_emb_fraction": (None, 1.0), "rotary_emb_interleaved": (None, False), "causal": (None, False)},
    **{"rotary_emb_scale_base": (None,), "use_rms_norm": (None, False), "parallel_block": (None, False)},
}
TRAINED = 2048
"""Positions of versions 1 and 1.5, whatever their config says."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """BERT's, and rotary positions."""

    head_dim: int
    layer_norm_eps: float
    rope: nn.Rope
    pooling_type: int = 0
    causal: bool = False


@dataclass(frozen=True)
class Attending:
    """Weights of one block but its feed-forward network."""

    attn_qkv: Weight
    attn_output: Weight
    attn_output_norm: Biased
    layer_output_norm: Biased


@dataclass(frozen=True)
class Block(Attending):
    """Weights of one block."""

    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    token_types: Weight | None
    token_embd_norm: Biased
    blk: list[Block]


def caches(hp: Hparams) -> list[Spec]:
    """Nothing outlives a step."""
    return caches_.encoder(hp.n_blocks, hp.n_heads, hp.head_dim)


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Hidden states (O, hidden)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    x = x if net.token_types is None else x + nn.embedding(batch.types, net.token_types)
    x = nn.layer_norm(x, net.token_embd_norm, hp.layer_norm_eps)
    frequencies = nn.frequencies(hp.rope)
    for block, kv in zip(net.blk, cache, strict=True):
        y = attention(block, hp, x, frequencies, batch, kv)
        x = nn.layer_norm(x + y, block.attn_output_norm, hp.layer_norm_eps)
        x = nn.layer_norm(x + feed_forward(block, x), block.layer_output_norm, hp.layer_norm_eps)
    return nn.rows(x, batch.outputs)


def attention(block: Attending, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    qkv = nn.split(nn.linear(x, block.attn_qkv), 1, [hp.hidden_size] * 3)
    q, k, v = (nn.heads(y, hp.n_heads) for y in qkv)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.silu_mul(nn.linear(x, block.ffn_gate), nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "emb_ln": "token_embd_norm",
    "encoder.layers.{}.attn.Wqkv": "blk.{}.attn_qkv",
    "encoder.layers.{}.attn.out_proj": "blk.{}.attn_output",
    "encoder.layers.{}.norm1": "blk.{}.attn_output_norm",
    "encoder.layers.{}.mlp.fc11": "blk.{}.ffn_up",
    "encoder.layers.{}.mlp.fc12": "blk.{}.ffn_gate",
    "encoder.layers.{}.mlp.fc2": "blk.{}.ffn_down",
    "encoder.layers.{}.norm2": "blk.{}.layer_output_norm",
}
HF_IGNORED = ("cls",)


def claims(config: Config) -> bool:
    """Whether no block has experts."""
    return not config.get("moe_every_n_layers")


def renamed_keys(config: Config) -> dict[str, Any]:
    """Keys of the repository's own code, as transformers calls them."""
    said = {"rope_theta": "rotary_emb_base", "layer_norm_eps": "layer_norm_epsilon"}
    return {key: config.get(theirs) or config[key] for key, theirs in said.items()}


def hparams_from_hf(config: Config) -> Hparams:
    """Keys of the repository's own code and of transformers; the context is the one that was trained."""
    said = {**config, **renamed_keys(config)}
    if config.get("n_positions"):
        said["max_position_embeddings"] = min(config["n_positions"], config.get("max_trained_positions") or TRAINED)
    return Hparams.from_hf(NAME, said)
