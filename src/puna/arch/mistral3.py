"""Mistral Small 3.1 and Ministral 3, text: Llama, whose queries may grow with the position.

What yarn makes larger is made smaller again: `yarn_log_multiplier` is HF's `mscale_all_dim`. Reference:
https://arxiv.org/abs/2601.08584, transformers `modeling_ministral3.py`, `modeling_mistral3.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

from puna import nn
from puna.arch import llama
from puna.arch.base import KV, Batch, Config
from puna.graph import Tensor

HF_CLASSES = ("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration")
KNOWN = ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "mistralai/Ministral-3-8B-Instruct-2512")
HF_PREFIXES = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
}
HF_IGNORED = (*llama.HF_IGNORED, "vision_tower", "multi_modal_projector")
GGUF_IGNORED = ("v.", "mm.")
HF_DEFAULTS = llama.HF_DEFAULTS | {
    **{"rms_norm_eps": 1e-5, "head_dim": 128, "num_key_value_heads": 8, "tie_word_embeddings": False},
    **{"rope_theta": None},
}
HF_REQUIRES = llama.HF_REQUIRES
HF_NAMES = llama.HF_NAMES
from_hf = llama.from_hf
caches = llama.caches


@dataclass(frozen=True, kw_only=True)
class Hparams(llama.Hparams):
    """Its own. `temperature_scale`: by how much queries grow with each further context that yarn stretched."""

    yarn_log_multiplier: float = 0.0
    temperature_scale: float = 0.0

    @property
    def rope_scale(self) -> float:
        """What cosines and sines are multiplied by."""
        stretched = self.rope.scaling == "yarn" and self.rope.factor > 1
        back = 1.0 + 0.1 * self.yarn_log_multiplier * log(self.rope.factor) if stretched else 1.0
        return self.rope.scale / back


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
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="pairs", scale=hp.rope_scale) for y in (q, k))
    if hp.temperature_scale and hp.rope.original_context:
        q = q * nn.growth(batch.positions, hp.rope.original_context, hp.temperature_scale)
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def hparams_from_hf(config: Config) -> Hparams:
    """Yarn's magnitude as ggml says it, and the growth of queries, which rotary settings say here."""
    said: Any = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(said, Mapping) or "llama_4_scaling_beta" not in said:
        return Hparams.from_hf("mistral3", config)
    plain = {k: v for k, v in said.items() if k not in ("llama_4_scaling_beta", "max_position_embeddings")}
    hp = Hparams.from_hf("mistral3", {**config, "rope_scaling": None, "rope_parameters": plain})
    hp = replace(hp, temperature_scale=float(said["llama_4_scaling_beta"] or 0.0))
    if said.get("mscale") != 1.0 or not said.get("mscale_all_dim"):
        return hp
    rope = replace(hp.rope, attention_factor=0.0)
    return replace(hp, rope=rope, yarn_log_multiplier=float(said["mscale_all_dim"]))
