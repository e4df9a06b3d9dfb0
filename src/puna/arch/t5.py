"""T5: an encoder reads the prompt, a decoder answers it; see `t5encoder`, whose blocks the decoder's are, and more.

Between self-attention and feed-forward a decoder block reads the encoder's output, without positions. Version 1 shares
embedding and output and scales what goes into it; 1.1, Flan and mT5 have an output of their own. UMT5 has a bias in
every block. Reference: https://arxiv.org/abs/1910.10683, transformers `modeling_t5.py`, `modeling_umt5.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from puna import cache as caches_
from puna import nn
from puna.arch import base, t5encoder
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.graph import Tensor

HF_CLASSES = (
    *("T5ForConditionalGeneration", "T5WithLMHeadModel", "MT5ForConditionalGeneration"),
    "UMT5ForConditionalGeneration",
)
KNOWN = ("google-t5/t5-small", "google/flan-t5-base", "google/mt5-small", "google/umt5-small")
HF_DEFAULTS = t5encoder.HF_DEFAULTS | {"decoder_start_token_id": 0, "tie_word_embeddings": True}
HF_REQUIRES = t5encoder.HF_REQUIRES
HF_SAME = (*t5encoder.HF_SAME, "decoder.embed_tokens")
OUTPUT_BY_FILE = True
BLOCKS = {"enc": ("enc.blk", "n_blocks"), "dec": ("dec.blk", "n_decoder_blocks")}
SCALED = ("T5ForConditionalGeneration", "T5WithLMHeadModel", "UMT5ForConditionalGeneration")
"""Classes that scale what goes into the output, unless config.json says that it is not shared."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """T5's own; `logit_scale` unsaid: by the width where embedding and output are shared."""

    head_dim: int
    norm_eps: float
    n_decoder_blocks: int
    n_buckets: int = 32
    decoder_start: int = 0
    logit_scale: float | None = None


@dataclass(frozen=True)
class Block(t5encoder.Block):
    """Weights of a decoder block; nothing uses a bias of cross-attention, which early checkpoints have."""

    cross_attn_norm: Weight
    cross_attn_q: Weight
    cross_attn_k: Weight
    cross_attn_v: Weight
    cross_attn_o: Weight
    cross_attn_rel_b: Weight | None


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    enc: list[t5encoder.Block]
    enc_output_norm: Annotated[Weight, "enc.output_norm.weight"]
    dec: list[Block]
    dec_output_norm: Annotated[Weight, "dec.output_norm.weight"]
    output: Weight | None


def caches(hp: Hparams) -> list[Spec]:
    """Of each decoder block what it said, then of each what the encoder read."""
    own, read = (Spec(hp.n_heads, hp.head_dim, hp.head_dim, read=read) for read in (False, True))
    return [own] * hp.n_decoder_blocks + [read] * hp.n_decoder_blocks


def encoder_caches(hp: Hparams) -> list[Spec]:
    """Nothing outlives a step."""
    return caches_.encoder(hp.n_blocks, hp.n_heads, hp.head_dim)


def decoder_start(hp: Hparams) -> list[int]:
    """The token that an answer begins with."""
    return [hp.decoder_start]


def encode(net: Network, hp: Hparams, batch: Batch, own: Sequence[KV], cache: Sequence[KV]) -> tuple[Tensor, list[KV]]:
    """The encoder's hidden states (O, hidden), and as keys and values of each decoder block."""
    biases = t5encoder.biases_of(net.enc, t5encoder.buckets(hp.n_buckets), BLOCKS["enc"][0])
    x = t5encoder.blocks(net.enc, biases, hp, nn.embedding(batch.tokens, net.token_embd), batch, own)
    x = nn.rms_norm(x, net.enc_output_norm, hp.norm_eps)
    read = []
    for block, kv in zip(net.dec, cache[hp.n_decoder_blocks :], strict=True):
        k, v = (nn.heads(nn.linear(x, w), hp.n_heads) for w in (block.cross_attn_k, block.cross_attn_v))
        read.append(nn.remember(k, v, batch, kv))
    return nn.rows(x, batch.outputs), read


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab) of the decoder."""
    x = nn.embedding(batch.tokens, net.token_embd)
    biases = t5encoder.biases_of(net.dec, t5encoder.buckets(hp.n_buckets, ahead=False), BLOCKS["dec"][0])
    memories = zip(cache[: len(net.dec)], cache[len(net.dec) :], strict=True)
    for block, bias, (kv, read) in zip(net.dec, biases, memories, strict=True):
        x = x + t5encoder.attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), bias, batch, kv)
        x = x + attention(block, hp, nn.rms_norm(x, block.cross_attn_norm, hp.norm_eps), batch, read)
        x = x + feed_forward(block, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.dec_output_norm, hp.norm_eps)
    scale = hp.logit_scale or (1.0 if net.output else hp.hidden_size**-0.5)
    return nn.linear(x if scale == 1.0 else x * scale, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, read: KV) -> Tensor:
    """From (T, hidden) to what the encoder read: (T, hidden)."""
    q = nn.heads(nn.linear(x, block.cross_attn_q), hp.n_heads)
    return nn.linear(nn.attend(q, batch, read, scale=1.0), block.cross_attn_o)


feed_forward = t5encoder.feed_forward


def _decoder(hf: str, ours: str) -> tuple[str, str]:
    """A name of the encoder's as the decoder's: its feed-forward is the third layer."""
    return hf.replace("encoder.", "decoder.").replace("layer.1.", "layer.2."), ours.replace("enc.", "dec.")


HF_NAMES = {
    **t5encoder.HF_NAMES,
    **dict(_decoder(hf, ours) for hf, ours in t5encoder.HF_NAMES.items()),
    **{f"decoder.block.{{}}.layer.1.EncDecAttention.{p}": f"dec.blk.{{}}.cross_attn_{p}" for p in "qkvo"},
    "decoder.block.{}.layer.1.layer_norm": "dec.blk.{}.cross_attn_norm",
    "decoder.block.{}.layer.1.EncDecAttention.relative_attention_bias": "dec.blk.{}.cross_attn_rel_b",
    "lm_head": "output",
}


def hparams_from_hf(config: Config) -> Hparams:
    """T5's names of sizes; the scale by the class, and what config.json says of it or of a shared output."""
    says = config.get("scale_decoder_outputs", config["tie_word_embeddings"])
    scaled = config["architectures"][0] in SCALED and says is not False
    scale = config["d_model"] ** -0.5 if scaled else 1.0
    return Hparams.from_hf("t5", {**t5encoder.sizes(config), "logit_scale": scale})
