"""EXAONE 4: norms after each half of a block instead of before it, and on each head's q and k.

The large one has a window on three of four blocks; the others see everything and have no rotary positions. They are in
halves. Reference: https://arxiv.org/abs/2507.11407, transformers `modeling_exaone4.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import olmo2, rope
from puna.arch.base import KV, Batch, Config, Weight
from puna.graph import Tensor

HF_CLASSES = ("Exaone4ForCausalLM",)
KNOWN = ("LGAI-EXAONE/EXAONE-4.0-1.2B", "LGAI-EXAONE/EXAONE-4.0-32B")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False},
    **{"sliding_window": 4096, "sliding_window_pattern": 4},
}
HF_REQUIRES = {"hidden_act": ("silu",), "layer_types": (None, "full_attention", "sliding_attention")}
Hparams = olmo2.Hparams
caches = olmo2.caches


@dataclass(frozen=True)
class Block(olmo2.Block):
    """Weights of one block."""


@dataclass(frozen=True)
class Network(olmo2.Network):
    """Weights of the whole model; without `output` the embedding serves."""

    rope_freqs: Weight | None
    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope, net.rope_freqs)
    for i, (block, kv) in enumerate(zip(net.blk, cache, strict=True)):
        turned = hp.slides(i) or not hp.sliding_window
        y = attention(block, hp, x, frequencies if turned else None, batch, kv)
        x = x + nn.rms_norm(y, block.post_attention_norm, hp.norm_eps)
        x = x + nn.rms_norm(feed_forward(block, x), block.post_ffw_norm, hp.norm_eps)
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor | None, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = nn.rms_norm(q, block.attn_q_norm, hp.norm_eps), nn.rms_norm(k, block.attn_k_norm, hp.norm_eps)
    if frequencies is not None:
        q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.silu_mul(nn.linear(x, block.ffn_gate), nn.linear(x, block.ffn_up)), block.ffn_down)


HF_NAMES = olmo2.HF_NAMES
HF_IGNORED = olmo2.HF_IGNORED


def hparams_from_hf(config: Config) -> olmo2.Hparams:
    """The blocks with a window are listed, or every nth is without, or letters say it: L for those that have one."""
    every, types = config["sliding_window_pattern"], config.get("layer_types")
    blocks = range(config["num_hidden_layers"])
    if not config["sliding_window"]:
        pattern = None
    elif types:
        pattern = [kind == "sliding_attention" for kind in types]
    elif isinstance(every, str):
        pattern = [every[i % len(every)] == "L" for i in blocks]
    else:
        pattern = [bool(every) and (i + 1) % every != 0 for i in blocks]
    return Hparams.from_hf("exaone4", {**config, "sliding_window_pattern": pattern})


def extra_tensors(config: Config, hp: olmo2.Hparams) -> dict[str, list[float]]:
    """Frequency factors as Llama 3's."""
    factors = rope.llama3_factors(config, hp.rope.dim)
    return {} if factors is None else {"rope_freqs.weight": factors}
