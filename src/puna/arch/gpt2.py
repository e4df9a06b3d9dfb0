"""GPT-2: learned positions, LayerNorms before each half of a block, one GELU network, q, k and v in one matrix.

HF stores matrices as (in, out). The embedding is tied. Reference:
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf, transformers
`modeling_gpt2.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Biased, Config, Spec, Transform, Weight
from puna.graph import Tensor

HF_CLASSES = ("GPT2LMHeadModel",)
KNOWN = ("openai-community/gpt2", "openai-community/gpt2-xl")
HF_PREFIXES = {"transformer.": ""}
HF_DEFAULTS = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}
HF_REQUIRES = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (None, True),
    "scale_attn_by_inverse_layer_idx": (None, False),
    "add_cross_attention": (None, False),
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """GPT-2's own."""

    layer_norm_eps: float


@dataclass(frozen=True)
class Block:
    """Weights of one block; `attn_qkv` is q over k over v."""

    attn_norm: Biased
    attn_qkv: Weight
    attn_output: Weight
    ffn_norm: Biased
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; without `output` the embedding serves."""

    token_embd: Weight
    position_embd: Weight
    output_norm: Biased
    output: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """All blocks alike."""
    size = hp.hidden_size // hp.n_heads
    return [Spec(hp.n_heads, size, size)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd) + nn.embedding(batch.positions, net.position_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps), batch, kv)
        x = x + feed_forward(block, nn.layer_norm(x, block.ffn_norm, hp.layer_norm_eps))
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.split(nn.heads(nn.linear(x, block.attn_qkv), 3 * hp.n_heads), 1, (hp.n_heads,) * 3)
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=kv.spec.key_size**-0.5), block.attn_output)


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.gelu_tanh(nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "lm_head": "output",
    "h.{}.ln_1": "blk.{}.attn_norm",
    "h.{}.attn.c_attn": "blk.{}.attn_qkv",
    "h.{}.attn.c_proj": "blk.{}.attn_output",
    "h.{}.ln_2": "blk.{}.ffn_norm",
    "h.{}.mlp.c_fc": "blk.{}.ffn_up",
    "h.{}.mlp.c_proj": "blk.{}.ffn_down",
}
HF_IGNORED = ("attn.bias", "attn.masked_bias")


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """Matrices of blocks are (in, out) in HF."""
    _, _, part = name.partition("blk.")
    return base.transpose() if part.endswith(".weight") and not part.endswith("_norm.weight") else None


def hparams_from_hf(config: Config) -> Hparams:
    """A network as wide as four embeddings, where nothing says."""
    width = config.get("n_inner") or 4 * (config.get("n_embd") or config["hidden_size"])
    return Hparams.from_hf("gpt2", {**config, "n_inner": width})
