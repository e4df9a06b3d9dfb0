"""OLMoE: Llama with an RMS norm over all of q and all of k, rotary positions in halves, and many small experts.

Shares are a softmax over all experts, which those of the chosen are taken from as they are. Reference:
https://arxiv.org/abs/2409.02060, transformers `modeling_olmoe.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import llama, mixture
from puna.arch.base import KV, Batch, Config, Weight
from puna.graph import Tensor

HF_CLASSES = ("OlmoeForCausalLM",)
HF_DEFAULTS = llama.HF_DEFAULTS | {"rms_norm_eps": 1e-5, "norm_topk_prob": False, "tie_word_embeddings": False}
HF_REQUIRES = {"hidden_act": ("silu",), "clip_qkv": (None,)}
HF_IGNORED = llama.HF_IGNORED
caches = llama.caches


@dataclass(frozen=True, kw_only=True)
class Hparams(llama.Hparams):
    """What OLMoE says of its experts."""

    n_experts: int
    n_experts_used: int
    expert_norm: bool = False
    gating = nn.SOFTMAX


@dataclass(frozen=True)
class Block(llama.Block):
    """Weights of one block."""

    attn_q_norm: Weight
    attn_k_norm: Weight


@dataclass(frozen=True)
class Network(llama.Network):
    """Weights of the whole model."""

    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return llama.decoder(net, hp, batch, cache, attention)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q = nn.heads(nn.rms_norm(nn.linear(x, block.attn_q), block.attn_q_norm, hp.norm_eps), hp.n_heads)
    k = nn.heads(nn.rms_norm(nn.linear(x, block.attn_k), block.attn_k_norm, hp.norm_eps), hp.n_kv_heads)
    v = nn.heads(nn.linear(x, block.attn_v), hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


HF_NAMES = {
    **llama.HF_NAMES,
    **mixture.HF_NAMES,
    "model.layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
}


def hparams_from_hf(config: Config) -> Hparams:
    """A window is none of OLMoE's."""
    return Hparams.from_hf("olmoe", {**config, "sliding_window": None})
