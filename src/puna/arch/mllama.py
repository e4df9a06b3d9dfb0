"""Llama 3.2 Vision, its text path: Llama with blocks between that look at an image, which are passed over without one.

Their weights are kept in the file. The embedding has a few rows more than there are logits. Reference:
https://arxiv.org/abs/2407.21783, transformers `modeling_mllama.py`; names are Ollama's, as llama.cpp has no such model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("MllamaForConditionalGeneration", "MllamaForCausalLM")
HF_PREFIXES = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
}
HF_IGNORED = (*llama.HF_IGNORED, "vision_model", "multi_modal_projector")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "num_key_value_heads": 8},
    **{"tie_word_embeddings": False, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]},
}
HF_REQUIRES = llama.HF_REQUIRES
GGUF_IGNORED = ("v.", "mm.")


@dataclass(frozen=True, kw_only=True)
class Hparams(llama.Hparams):
    """Its own: which blocks look at an image."""

    cross_blocks: tuple[int, ...]

    def looks(self, block: int) -> bool:
        """Whether a block looks at an image."""
        return block in self.cross_blocks


@dataclass(frozen=True)
class Own:
    """Weights of a block that looks at what it remembers."""

    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight


@dataclass(frozen=True)
class Cross:
    """Weights of a block that looks at an image."""

    cross_attn_q_proj: Weight
    cross_attn_q_norm: Weight
    cross_attn_k_proj: Weight
    cross_attn_k_norm: Weight
    cross_attn_v_proj: Weight
    cross_attn_o_proj: Weight
    cross_attn_attn_gate: Annotated[Weight, "cross_attn_attn_gate"]
    cross_attn_mlp_gate: Annotated[Weight, "cross_attn_mlp_gate"]


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    attn: Own | Cross
    ffn_norm: Weight
    ffn: llama.Dense


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    rope_freqs: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """Of the blocks that do not look at an image."""
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim) for i in range(hp.n_blocks) if not hp.looks(i)]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope, net.rope_freqs)
    blocks = [block for i, block in enumerate(net.blk) if not hp.looks(i)]
    for block, kv in zip(blocks, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + llama.feed_forward(block.ffn, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    if isinstance(block.attn, Cross):
        raise ModelError(
            "mllama: a block has weights to look at an image, but 'cross_attention_layers' does not list it"
        )
    return llama.attention(block.attn, hp, x, frequencies, batch, kv)


HF_NAMES = llama.HF_NAMES | {
    f"model.layers.{{}}.cross_attn.{part}": f"blk.{{}}.cross_attn_{part}"
    for part in ("q_proj", "q_norm", "k_proj", "k_norm", "v_proj", "o_proj")
}
HF_TENSORS = {
    "model.layers.{}.cross_attn_attn_gate": "blk.{}.cross_attn_attn_gate",
    "model.layers.{}.cross_attn_mlp_gate": "blk.{}.cross_attn_mlp_gate",
}
from_hf = llama.from_hf


def hparams_from_hf(config: Config) -> Hparams:
    """Its class heeds no window."""
    return Hparams.from_hf("mllama", {**config, "sliding_window": None})


extra_tensors = llama.extra_tensors
