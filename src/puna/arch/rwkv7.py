"""RWKV-7: each head's memory is a matrix that one token makes forget, takes something out of, and writes into.

A row is mixed with the one before it, differently for each of what is made of it. How much is forgotten, replaced,
taken over from the first block's values and let through are products with two small matrices each. transformers has no
such model: it is held to a loop from the published formulas. Reference: https://arxiv.org/abs/2503.14456,
https://github.com/fla-org/flash-linear-attention `modeling_rwkv7.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from puna import nn
from puna.arch import base, mamba
from puna.arch.base import KV, Batch, Config, Names, Spec, Target, Transform, Weight
from puna.cache import recurrent
from puna.errors import ConversionError, ModelError
from puna.graph import Tensor, constant

HF_CLASSES = ("RWKV7ForCausalLM", "Rwkv7ForCausalLM")
KNOWN = ("fla-hub/rwkv7-191M-world", "fla-hub/rwkv7-1.5B-world", "fla-hub/rwkv7-2.9B-world")
HF_DEFAULTS = {
    **{"hidden_size": 2048, "num_hidden_layers": 24, "hidden_ratio": 4, "norm_eps": 1e-5, "vocab_size": 32000},
    **{"decay_low_rank_dim": 64, "gate_low_rank_dim": 128, "a_low_rank_dim": 64, "v_low_rank_dim": 16},
    **{"tie_word_embeddings": False},
}
HF_REQUIRES = {
    **{"hidden_act": (None, "sqrelu"), "norm_first": (None, True), "attn": (None,)},
    **{"wkv_has_gate": (None, True), "wkv_version": (None, 7)},
}
OLDER = {
    **{"head_dim": "head_size", "norm_eps": "layer_norm_epsilon", "v_low_rank_dim": "lora_rank_value_residual_mix"},
    **{
        "decay_low_rank_dim": "lora_rank_decay",
        "a_low_rank_dim": "lora_rank_iclr",
        "gate_low_rank_dim": "lora_rank_gate",
    },
}
"""Keys of config.json as the older class calls them."""

HF_IGNORED = ("layers.0.attn.v_lora",)
"""The first block has no other's values to take over; some files have matrices for it all the same."""

UNIT_EPS = 1e-24
"""Added to squared lengths."""

MOST_FORGOTTEN = -exp(-0.5)
"""The logarithm of how little one token may leave of a memory."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """RWKV-7's own; the ranks are those of the small matrices."""

    n_heads: int = 0
    layer_norm_eps: float
    wkv_head_size: int
    decay_rank: int
    rate_rank: int
    value_mix_rank: int
    gate_rank: int


@dataclass(frozen=True)
class TakenOver:
    """What tells how much of the first block's values a block takes over."""

    time_mix_v0: Weight
    time_mix_v1: Weight
    time_mix_v2: Weight


@dataclass(frozen=True)
class TimeMix:
    """Of what remembers: w forgets, a replaces, g lets through; `r_k` weighs what a token sees of itself.

    `time_mix_lerp_fused` (6, 1, 1, hidden) mixes rows for r, w, k, v, a and g.
    """

    time_mix_lerp_fused: Weight
    time_mix_receptance: Weight
    time_mix_key: Weight
    time_mix_value: Weight
    time_mix_output: Weight
    time_mix_ln: Weight
    time_mix_w0: Weight
    time_mix_w1: Weight
    time_mix_w2: Weight
    time_mix_a0: Weight
    time_mix_a1: Weight
    time_mix_a2: Weight
    time_mix_g1: Weight
    time_mix_g2: Weight
    time_mix_k_k: Weight
    time_mix_k_a: Weight
    time_mix_r_k: Weight
    taken_over: TakenOver | None


@dataclass(frozen=True)
class ChannelMix:
    """Of the feed-forward part, which sees the row before, too."""

    channel_mix_lerp_k: Weight
    channel_mix_key: Weight
    channel_mix_value: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    time: TimeMix
    attn_norm_2: Weight
    channel: ChannelMix


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; without `output` the embedding serves."""

    token_embd: Weight
    token_embd_norm: Weight
    output_norm: Weight
    output: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """The last row of either part, and each head's matrix."""
    row, size = (1, hp.hidden_size), hp.wkv_head_size
    if hp.hidden_size % size:
        raise ModelError(f"rwkv7: heads of {size} do not divide a hidden size of {hp.hidden_size}")
    return [recurrent(row, row, (hp.hidden_size // size, size, size))] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    eps, first = hp.layer_norm_eps, None
    x = nn.layer_norm(nn.embedding(batch.tokens, net.token_embd), net.token_embd_norm, eps)
    for block, kv in zip(net.blk, cache, strict=True):
        y, first = mix(block.time, hp, nn.layer_norm(x, block.attn_norm, eps), first, batch, kv)
        x = x + y
        x = x + feed_forward(block.channel, nn.layer_norm(x, block.attn_norm_2, eps), batch, kv.recurrent[1])
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, eps)
    return nn.linear(x, net.output or net.token_embd)


def mix(block: TimeMix, hp: Hparams, x: Tensor, first: Tensor | None, batch: Batch, kv: KV) -> tuple[Tensor, Tensor]:
    """(T, hidden) to (T, hidden), and the first block's values (T, hidden), which the others are given."""
    last, _, memories = kv.recurrent
    lerp, back = block.time_mix_lerp_fused.weight.reshape(6, hp.hidden_size), nn.way_back(x, batch, last)
    for_r, for_w, for_k, for_v, for_a, for_g = (x + back * part for part in nn.split(lerp, 0, [1] * 6))
    into = (for_r, block.time_mix_receptance), (for_k, block.time_mix_key), (for_v, block.time_mix_value)
    r, k, v = (nn.linear(y, w) for y, w in into)
    if first is not None:
        v = v + (first - v) * share(block.taken_over, for_v)
    forgets = nn.linear(nn.tanh(nn.linear(for_w, block.time_mix_w1)), block.time_mix_w2) + block.time_mix_w0.weight
    replaces = nn.linear(nn.linear(for_a, block.time_mix_a1), block.time_mix_a2) + block.time_mix_a0.weight
    y = remembered(block, hp, (r, nn.sigmoid(forgets), k, v, nn.sigmoid(replaces)), batch, memories)
    gate = nn.linear(nn.sigmoid(nn.linear(for_g, block.time_mix_g1)), block.time_mix_g2)
    return nn.linear(y * gate, block.time_mix_output), v if first is None else first


def share(block: TakenOver | None, x: Tensor) -> Tensor:
    """How much of the first block's values takes the place of a block's own: (T, hidden)."""
    if block is None:
        raise ModelError("a block after the first needs 'time_mix_v0', 'time_mix_v1' and 'time_mix_v2'")
    return nn.sigmoid(nn.linear(nn.linear(x, block.time_mix_v1), block.time_mix_v2) + block.time_mix_v0.weight)


def remembered(block: TimeMix, hp: Hparams, parts: Sequence[Tensor], batch: Batch, memories: Tensor) -> Tensor:
    """What heads read, each normed by itself, and see of the token itself: r, w, k, v, a (T, hidden) to (T, hidden)."""
    r, w, k, v, a = parts
    size = hp.wkv_head_size
    along = k * block.time_mix_k_k.weight
    k = k + k * (a - 1.0) * block.time_mix_k_a.weight
    own = r * k * block.time_mix_r_k.weight
    r, w, k, v, a, along, own = (nn.heads(y, hp.hidden_size // size) for y in (r, w, k, v, a, along, own))
    along = nn.rms_norm(along, None, UNIT_EPS / size) * size**-0.5
    rates, replaced = constant([[MOST_FORGOTTEN]] * (hp.hidden_size // size)), (-along, along * a)
    y = nn.recurrence(r, w, k, v, batch, memories, rates=rates, added=replaced)
    y = nn.layer_norm(y, None, size * hp.layer_norm_eps)
    scaled, bias = nn.flat(y) * block.time_mix_ln.weight, block.time_mix_ln.bias
    return (scaled if bias is None else scaled + bias) + nn.flat(v * own.sum(2))


def feed_forward(block: ChannelMix, x: Tensor, batch: Batch, last: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    mixed = x + nn.way_back(x, batch, last) * block.channel_mix_lerp_k.weight
    return nn.linear(nn.relu_squared(nn.linear(mixed, block.channel_mix_key)), block.channel_mix_value)


_BLOCK, _TIME = "model.layers.{}.", "blk.{}.time_mix_"
_PROJECTIONS = {"r_proj": "receptance", "k_proj": "key", "v_proj": "value", "o_proj": "output", "g_norm": "ln"}
HF_NAMES = {
    "model.embeddings": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.0.pre_norm": "token_embd_norm",
    f"{_BLOCK}attn_norm": "blk.{}.attn_norm",
    f"{_BLOCK}ffn_norm": "blk.{}.attn_norm_2",
    **{f"{_BLOCK}attn.{part}": f"{_TIME}{name}" for part, name in _PROJECTIONS.items()},
    **{f"{_BLOCK}ffn.{part}": f"blk.{{}}.channel_mix_{part}" for part in ("key", "value")},
}
_RANKS = {"0.weight": "1", "2.weight": "2", "2.bias": "0"}
HF_TENSORS: Names = {
    f"{_BLOCK}ffn.x_k": "blk.{}.channel_mix_lerp_k.weight",
    f"{_BLOCK}attn.x_x": f"{_TIME}lerp_fused.weight",
    **{f"{_BLOCK}attn.x_{part}": Target(f"{_TIME}lerp_fused.weight", i) for i, part in enumerate("rwkvag")},
    **{f"{_BLOCK}attn.{part}": f"{_TIME}{part}.weight" for part in ("k_k", "k_a", "r_k")},
    **{f"{_BLOCK}attn.{w}_lora.lora.{n}": f"{_TIME}{w}{i}.weight" for w in "wavg" for n, i in _RANKS.items()},
    **{
        f"model.layers.0.attn.a_lora.lora.{n}": (f"blk.0.time_mix_a{i}.weight", f"blk.0.time_mix_v{i}.weight")
        for n, i in _RANKS.items()
    },
}
"""In the first block, what replaces is written as what takes over, too: llama.cpp wants some, and reads none of it."""


VECTORS = tuple(f"time_mix_{part}.weight" for part in ("w0", "a0", "v0", "k_k", "k_a", "r_k"))
VECTORS += ("channel_mix_lerp_k.weight",)


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """Rows that mix are vectors, or apart from each other; what weighs heads is one vector."""
    part = name.split(".", 2)[-1]
    if part == "time_mix_lerp_fused.weight":
        return base.apart()
    return base.reshape(-1) if part in VECTORS else None


def hparams_from_hf(config: Config) -> Hparams:
    """Sizes that config.json leaves to be computed; values are as wide as keys."""
    said = {**config, **{key: config[old] for key, old in OLDER.items() if config.get(old) is not None}}
    hidden, values = int(said["hidden_size"]), said.get("value_dim") or []
    if any(width != hidden for width in (values if isinstance(values, list) else [values])):
        found = str(values)[:80]
        raise ConversionError(f"rwkv7: config key 'value_dim' is {found}; what works: {hidden}, as hidden_size")
    size = said.get("head_dim") or hidden // (said.get("num_heads") or hidden // 64)
    wide = said.get("intermediate_size") or -(-int(hidden * (said["hidden_ratio"] or 4)) // 32) * 32
    said |= {"intermediate_size": wide, "max_position_embeddings": mamba.LONG, "head_dim": size}
    return Hparams.from_hf("rwkv7", {**said, "layer_norm_eps": said["norm_eps"]})
