"""Granite 3: Llama whose embeddings, residual branches, attention scores and logits are multiplied by constants.

Reference: https://huggingface.co/ibm-granite, transformers `modeling_granite.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import llama, mixture
from puna.arch.base import KV, Batch, Config
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("GraniteForCausalLM",)
KNOWN = ("ibm-granite/granite-3.3-2b-instruct", "ibm-granite/granite-3.3-8b-instruct")
HF_DEFAULTS = {
    **llama.HF_DEFAULTS,
    **{"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 1.0, "logits_scaling": 1.0},
}
HF_REQUIRES = llama.HF_REQUIRES


@dataclass(frozen=True, kw_only=True)
class Hparams(llama.Hparams):
    """Granite's own; a scale of 0 is none. Logits are divided by theirs. `rope_finetuned` False: no positions."""

    logit_scale: float
    attention_scale: float = 0.0
    embedding_scale: float = 0.0
    residual_scale: float = 0.0
    rope_finetuned: bool | None = None


Block = llama.Block
Network = llama.Network
caches = llama.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd) * (hp.embedding_scale or 1.0)
    frequencies = None if hp.rope_finetuned is False else nn.frequencies(hp.rope, net.rope_freqs)
    part = hp.residual_scale or 1.0
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.rms_norm(x, block.attn_norm, hp.norm_eps)
        x = x + attention(block, hp, y, frequencies, batch, kv) * part
        x = x + feed_forward(block.ffn, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps)) * part
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd) / hp.logit_scale


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor | None, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return llama.attention(block, hp, x, frequencies, batch, kv, scale=hp.attention_scale)


feed_forward = mixture.feed_forward
HF_NAMES = llama.HF_NAMES
HF_IGNORED = llama.HF_IGNORED
from_hf = llama.from_hf
extra_tensors = llama.extra_tensors


def hparams_from_hf(config: Config) -> Hparams:
    """No window."""
    check_multipliers(config)
    return Hparams.from_hf("granite", {**config, "sliding_window": None})


def check_multipliers(config: Config) -> None:
    """ModelError for a multiplier of 0, which a file cannot say."""
    for key in ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"):
        if not config[key]:
            raise ModelError(f"granite: config.json: '{key}' is {config[key]}; another number works")
