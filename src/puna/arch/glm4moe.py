"""GLM 4.5 to 4.7: Llama with part of each head turned, in halves, and experts that are routed as DeepSeek V3 does.

Biases on q, k and v and norms on each head's q and k are there or not. Blocks that predict further tokens (nextn) are
left out. Reference: https://arxiv.org/abs/2508.06471, transformers `modeling_glm4_moe.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from puna import nn
from puna.arch import base, llama, mixture
from puna.arch.base import KV, Batch, Config, Weight
from puna.graph import Tensor

HF_CLASSES = ("Glm4MoeForCausalLM",)
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    **{"n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0},
    **{"first_k_dense_replace": 1, "n_shared_experts": 1, "tie_word_embeddings": False},
}
HF_REQUIRES = {"hidden_act": ("silu",)}
HF_IGNORED = (*llama.HF_IGNORED, "eh_proj", "enorm", "hnorm", "shared_head")
caches = llama.caches


@dataclass(frozen=True, kw_only=True)
class Hparams(llama.Hparams):
    """What GLM says of its experts, and how many blocks after `n_blocks` predict further tokens."""

    n_experts: int
    n_experts_used: int
    n_dense_blocks: int = 0
    n_nextn_blocks: int | None = None
    expert_ffn_size: int | None = None
    n_shared_experts: int = 0
    expert_norm: bool = True
    expert_scale: float = 1.0
    n_expert_groups: int = 1
    n_expert_groups_used: int = 1
    gating: int = nn.SIGMOID

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """GGUF counts blocks that predict further tokens, which come last."""
        hp = super().from_gguf(arch, metadata)
        return replace(hp, n_blocks=hp.n_blocks - (hp.n_nextn_blocks or 0))


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_q_norm: Weight | None
    attn_k_norm: Weight | None
    attn_output: Weight
    post_attention_norm: Weight
    ffn: mixture.Dense | mixture.Experts


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + mixture.feed_forward(block.ffn, hp, nn.rms_norm(x, block.post_attention_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k = nn.heads(nn.linear(x, block.attn_q), hp.n_heads), nn.heads(nn.linear(x, block.attn_k), hp.n_kv_heads)
    if block.attn_q_norm and block.attn_k_norm:
        q, k = (nn.rms_norm(y, w, hp.norm_eps) for y, w in ((q, block.attn_q_norm), (k, block.attn_k_norm)))
    v = nn.heads(nn.linear(x, block.attn_v), hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


HF_NAMES = {
    **llama.HF_NAMES,
    **mixture.HF_NAMES,
    **mixture.HF_SHARED,
    "model.layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
    "model.layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm",
}
HF_TENSORS = mixture.HF_TENSORS


def hparams_from_hf(config: Config) -> Hparams:
    """Blocks that predict further tokens are not counted."""
    return Hparams.from_hf("glm4moe", {**config, "sliding_window": None, "gating": nn.SIGMOID})
