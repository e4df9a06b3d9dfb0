"""BART: an encoder reads the prompt, a decoder answers it; learned positions, norms after each part of a block, GELU.

ggml has no names for it: parts are called as BERT's, in the encoder's and the decoder's blocks as T5's. Answers begin
with the end of a text, and where config.json forces a first token, with that too.
Reference: https://arxiv.org/abs/1910.13461, transformers `modeling_bart.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from puna import cache as caches_
from puna import nn
from puna.arch import base
from puna.arch.base import KV, Batch, Biased, Config, Spec, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("BartForConditionalGeneration",)
KNOWN = ("facebook/bart-base", "facebook/bart-large-cnn", "sshleifer/distilbart-cnn-12-6")
HF_PREFIXES = {"model.": ""}
HF_DEFAULTS = {
    **{"activation_function": "gelu", "scale_embedding": False, "tie_word_embeddings": True},
    **{"decoder_start_token_id": 2, "max_position_embeddings": 1024},
}
HF_REQUIRES = {
    **{"activation_function": ("gelu",), "normalize_before": (None, False), "normalize_embedding": (None, True)},
    **{"add_final_layer_norm": (None, False), "static_position_embeddings": (None, False)},
    **{"extra_pos_embeddings": (None, 2), "add_bias_logits": (None, False)},
}
HF_SAME = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
OUTPUT_BY_FILE = True
BLOCKS = {"enc": ("enc.blk", "n_blocks"), "dec": ("dec.blk", "n_decoder_blocks")}
OFFSET = 2
"""Rows of positions before the first, which nothing reads."""

EPS = 1e-5
"""No config.json says it."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """BART's own; `decoder_second`: the first token of every answer, where one is forced."""

    layer_norm_eps: float
    n_decoder_blocks: int
    decoder_start: int = 2
    decoder_second: int | None = None
    embedding_scale: float | None = None


@dataclass(frozen=True)
class EncoderBlock:
    """Weights of an encoder block."""

    attn_q: Biased
    attn_k: Biased
    attn_v: Biased
    attn_o: Biased
    attn_output_norm: Biased
    ffn_up: Biased
    ffn_down: Biased
    layer_output_norm: Biased


@dataclass(frozen=True)
class Block(EncoderBlock):
    """Weights of a decoder block."""

    cross_attn_q: Biased
    cross_attn_k: Biased
    cross_attn_v: Biased
    cross_attn_o: Biased
    cross_attn_output_norm: Biased


@dataclass(frozen=True)
class Network:
    """Weights of the whole model."""

    token_embd: Weight
    enc_position_embd: Annotated[Weight, "enc.position_embd.weight"]
    enc_token_embd_norm: Annotated[Biased, "enc.token_embd_norm.weight"]
    enc: list[EncoderBlock]
    dec_position_embd: Annotated[Weight, "dec.position_embd.weight"]
    dec_token_embd_norm: Annotated[Biased, "dec.token_embd_norm.weight"]
    dec: list[Block]
    output: Weight | None
    output_bias: Annotated[Weight | None, "output.bias"]


def caches(hp: Hparams) -> list[Spec]:
    """Of each decoder block what it said, then of each what the encoder read."""
    size = hp.hidden_size // hp.n_heads
    own, read = (Spec(hp.n_heads, size, size, read=read) for read in (False, True))
    return [own] * hp.n_decoder_blocks + [read] * hp.n_decoder_blocks


def encoder_caches(hp: Hparams) -> list[Spec]:
    """Nothing outlives a step."""
    return caches_.encoder(hp.n_blocks, hp.n_heads, hp.hidden_size // hp.n_heads)


def decoder_start(hp: Hparams) -> list[int]:
    """The tokens that an answer begins with."""
    return [hp.decoder_start, *([] if hp.decoder_second is None else [hp.decoder_second])]


def encode(net: Network, hp: Hparams, batch: Batch, own: Sequence[KV], cache: Sequence[KV]) -> tuple[Tensor, list[KV]]:
    """The encoder's hidden states (O, hidden), and as keys and values of each decoder block."""
    x = embedded(net, hp, batch, net.enc_position_embd, net.enc_token_embd_norm)
    for block, kv in zip(net.enc, own, strict=True):
        x = nn.layer_norm(x + attention(block, hp, x, batch, kv), block.attn_output_norm, hp.layer_norm_eps)
        x = nn.layer_norm(x + feed_forward(block, x), block.layer_output_norm, hp.layer_norm_eps)
    read = []
    for decoder, kv in zip(net.dec, cache[hp.n_decoder_blocks :], strict=True):
        k, v = (nn.heads(nn.linear(x, w), hp.n_heads) for w in (decoder.cross_attn_k, decoder.cross_attn_v))
        read.append(nn.remember(k, v, batch, kv))
    return nn.rows(x, batch.outputs), read


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab) of the decoder."""
    x = embedded(net, hp, batch, net.dec_position_embd, net.dec_token_embd_norm)
    for block, kv, read in zip(net.dec, cache[: len(net.dec)], cache[len(net.dec) :], strict=True):
        x = nn.layer_norm(x + attention(block, hp, x, batch, kv), block.attn_output_norm, hp.layer_norm_eps)
        x = nn.layer_norm(
            x + cross_attention(block, hp, x, batch, read), block.cross_attn_output_norm, hp.layer_norm_eps
        )
        x = nn.layer_norm(x + feed_forward(block, x), block.layer_output_norm, hp.layer_norm_eps)
    bias = net.output_bias.weight if net.output_bias else None
    return nn.linear(nn.rows(x, batch.outputs), Weight((net.output or net.token_embd).weight, bias))


def embedded(net: Network, hp: Hparams, batch: Batch, positions: Weight, norm: Weight) -> Tensor:
    """The tokens and their positions: (T, hidden)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    x = x if hp.embedding_scale is None else x * hp.embedding_scale
    return nn.layer_norm(x + nn.embedding(batch.positions, positions), norm, hp.layer_norm_eps)


def attention(block: EncoderBlock, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = (nn.heads(nn.linear(x, w), hp.n_heads) for w in (block.attn_q, block.attn_k, block.attn_v))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=kv.spec.key_size**-0.5), block.attn_o)


def cross_attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, read: KV) -> Tensor:
    """From (T, hidden) to what the encoder read: (T, hidden)."""
    q = nn.heads(nn.linear(x, block.cross_attn_q), hp.n_heads)
    return nn.linear(nn.attend(q, batch, read, scale=read.spec.key_size**-0.5), block.cross_attn_o)


def feed_forward(block: EncoderBlock, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.gelu(nn.linear(x, block.ffn_up)), block.ffn_down)


PARTS = {
    **{f"self_attn.{p}_proj": f"attn_{p}" for p in "qkv"},
    **{"self_attn.out_proj": "attn_o", "self_attn_layer_norm": "attn_output_norm"},
    **{"fc1": "ffn_up", "fc2": "ffn_down", "final_layer_norm": "layer_output_norm"},
}
CROSS = {
    **{f"encoder_attn.{p}_proj": f"cross_attn_{p}" for p in "qkv"},
    **{"encoder_attn.out_proj": "cross_attn_o", "encoder_attn_layer_norm": "cross_attn_output_norm"},
}
SIDES = {"encoder": ("enc", PARTS), "decoder": ("dec", PARTS | CROSS)}
HF_NAMES = {
    **dict.fromkeys(HF_SAME, "token_embd"),
    **{f"{side}.embed_positions": f"{ours}.position_embd" for side, (ours, _) in SIDES.items()},
    **{f"{side}.layernorm_embedding": f"{ours}.token_embd_norm" for side, (ours, _) in SIDES.items()},
    **{
        f"{side}.layers.{{}}.{hf}": f"{ours}.blk.{{}}.{name}"
        for side, (ours, parts) in SIDES.items()
        for hf, name in parts.items()
    },
    "lm_head": "output",
}
HF_TENSORS = {"final_logits_bias": "output.bias"}


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """Positions before the first are dropped; the bias of logits is one row."""
    if name.endswith("position_embd.weight"):
        return base.rows(OFFSET, OFFSET + hp.context_length)
    return base.reshape(-1) if name == "output.bias" else None


def hparams_from_hf(config: Config) -> Hparams:
    """BART's names of sizes; ModelError where encoder and decoder have other numbers of heads."""
    heads: list[Any] = [config.get(f"{side}_attention_heads") for side in SIDES]
    if heads[0] != heads[1]:
        raise ModelError(f"bart: the encoder has {heads[0]} heads and the decoder {heads[1]}; as many of both work")
    named = {"encoder_layers": "num_hidden_layers", "decoder_layers": "num_decoder_layers"}
    named |= {"encoder_ffn_dim": "intermediate_size", "encoder_attention_heads": "num_attention_heads"}
    said = {ours: config.get(key) for key, ours in named.items()}
    if config.get("forced_bos_token_id") is None and config.get("force_bos_token_to_be_generated"):  # early ones
        said["forced_bos_token_id"] = config.get("bos_token_id", 0)
    scale = config["d_model"] ** 0.5 if config["scale_embedding"] else None
    return Hparams.from_hf("bart", {**config, **said, "embedding_multiplier": scale, "layer_norm_eps": EPS})
