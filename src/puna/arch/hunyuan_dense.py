"""Hunyuan, dense: Llama with rotary positions in halves and an RMS norm on each head's q and k after them.

Where a config says `alpha`, it stretches the rotary base once and for all. Reference:
https://github.com/Tencent-Hunyuan/Hunyuan-7B, transformers `modeling_hunyuan_v1_dense.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from puna import nn
from puna.arch import llama
from puna.arch.base import KV, Batch, Config, Weight
from puna.graph import Tensor

NAME = "hunyuan-dense"
HF_CLASSES = ("HunYuanDenseV1ForCausalLM",)
KNOWN = ("tencent/Hunyuan-0.5B-Instruct", "tencent/Hunyuan-7B-Instruct")
HF_DEFAULTS = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False}
HF_REQUIRES = llama.HF_REQUIRES | {
    **{"use_qk_norm": (None, True), "use_cla": (None, False), "num_experts": (None, 1)},
    **{"sliding_window": (None,), "norm_type": (None, "rms", "hf_rms", "fused")},
}
HF_NAMES = llama.HF_NAMES | {
    "model.layers.{}.self_attn.query_layernorm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.key_layernorm": "blk.{}.attn_k_norm",
}
HF_IGNORED = llama.HF_IGNORED
Hparams = llama.Hparams
caches = llama.caches

ALPHA_OF_256K, CONTEXT_OF_256K = 1000.0, 262144
"""Configs stretched this far still say a context of 32768."""


@dataclass(frozen=True)
class Block(llama.Block):
    """Weights of one block."""

    attn_q_norm: Weight
    attn_k_norm: Weight


@dataclass(frozen=True)
class Network(llama.Network):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return llama.decoder(net, hp, batch, cache, attention)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    q, k = nn.rms_norm(q, block.attn_q_norm, hp.norm_eps), nn.rms_norm(k, block.attn_k_norm, hp.norm_eps)
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def hparams_from_hf(config: Config) -> llama.Hparams:
    """Rope type `dynamic` with an alpha is a larger base; the keys of yarn beside it mean nothing."""
    said: Any = config.get("rope_parameters") or config.get("rope_scaling")
    alpha = said.get("alpha") if isinstance(said, Mapping) else None
    if not alpha or "dynamic" not in (said.get("rope_type"), said.get("type")):
        return Hparams.from_hf(NAME, config)
    theta = said.get("rope_theta") or config["rope_theta"]
    hp = Hparams.from_hf(NAME, {**config, "rope_scaling": None, "rope_parameters": {"rope_theta": theta}})
    stretched = replace(hp.rope, theta=hp.rope.theta * float(alpha) ** (hp.head_dim / (hp.head_dim - 2)))
    context = CONTEXT_OF_256K if alpha == ALPHA_OF_256K else hp.context_length
    return replace(hp, rope=stretched, context_length=context)
