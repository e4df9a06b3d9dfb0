"""ERNIE 4.5, dense: Llama with heads of a size of their own; its rotary positions are in pairs in HF too.

Reference: https://arxiv.org/abs/2509.21356, transformers `modeling_ernie4_5.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna.arch import llama
from puna.arch.base import KV, Batch
from puna.graph import Tensor

HF_CLASSES = ("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM")
KNOWN = ("baidu/ERNIE-4.5-0.3B-PT",)
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "head_dim": 128},
    **{"num_key_value_heads": 2, "tie_word_embeddings": True},
}
HF_REQUIRES = llama.HF_REQUIRES | {"sliding_window": (None,), "compression_ratio": (None, 1.0)}
HF_NAMES = llama.HF_NAMES
HF_IGNORED = llama.HF_IGNORED
Hparams = llama.Hparams
caches = llama.caches


@dataclass(frozen=True)
class Block(llama.Block):
    """Weights of one block."""


@dataclass(frozen=True)
class Network(llama.Network):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return llama.decoder(net, hp, batch, cache, attention)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return llama.attention(block, hp, x, frequencies, batch, kv)
