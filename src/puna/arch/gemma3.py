"""Gemma 3, text: norms before and after each half of a block, q and k norms, five sliding-window blocks to one global.

Sliding blocks have a rotary base of their own and no scaling. Norm weights are stored as 1 + w, the embedding is scaled
by sqrt(hidden) and tied. Reference: https://arxiv.org/abs/2503.19786, transformers `modeling_gemma3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from puna import nn
from puna.arch import base, gemma, rope
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
KNOWN = ("google/gemma-3-270m", "google/gemma-3-1b-it", "google/gemma-3-27b-it")
HF_PREFIXES = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
}
HF_IGNORED = ("vision_tower", "multi_modal_projector")
HF_DEFAULTS = {
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256},
    **{"max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh"},
    **{"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6},
    **{"tie_word_embeddings": True, "vocab_size": 262208},
}
HF_REQUIRES = {
    "hidden_activation": ("gelu_pytorch_tanh",),
    "attn_logit_softcapping": (None,),
    "use_bidirectional_attention": (None, False),
    "layer_types": (None, "full_attention", "sliding_attention"),
}
GGUF_IGNORED = ("v.", "mm.")
BLOCKS_OF_1B, BLOCKS_OF_27B = 26, 62
BLOCKS_WITH_LONG_CONTEXT = (34, 48, BLOCKS_OF_27B)
"""Published sizes, whose files leave some things unsaid."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Gemma's own. `sliding_window_pattern`: whether each block sees a window only, or n where each nth is global."""

    GGUF_DEFAULTS: ClassVar[Config] = {"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1000000.0}

    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    rope_theta_local: float = 10000.0
    sliding_window: int = 0
    sliding_window_pattern: int | tuple[bool, ...] = 6
    final_softcap: float | None = None
    attention_scale: float | None = None

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """Corrects what Ollama's converter left out of files of the published sizes, or put in wrongly."""
        hp = super().from_gguf(arch, metadata)
        if hp.n_blocks in BLOCKS_WITH_LONG_CONTEXT and f"{arch}.rope.freq_base" not in metadata:
            hp = replace(hp, rope=replace(hp.rope, scaling="linear", factor=8.0))
        if hp.n_blocks == BLOCKS_OF_1B and f"{arch}.rope.local.freq_base" in metadata:
            hp = replace(hp, final_softcap=None)
        return hp

    @property
    def scale(self) -> float:
        """What scores are multiplied by; 27B goes by hidden / heads, not the head's size, which files do not say."""
        size = self.hidden_size // self.n_heads if self.n_blocks == BLOCKS_OF_27B else self.head_dim
        return self.attention_scale or size**-0.5

    def slides(self, block: int) -> bool:
        """Whether a block sees a window only."""
        pattern = self.sliding_window_pattern
        if isinstance(pattern, int):
            return self.sliding_window > 0 and (block + 1) % pattern != 0
        if len(pattern) != self.n_blocks:
            raise ModelError(f"gemma3: the window pattern has {len(pattern)} blocks, the model {self.n_blocks}")
        return self.sliding_window > 0 and pattern[block]


@dataclass(frozen=True)
class Block(gemma.Block):
    """Weights of one block."""

    attn_q_norm: Weight
    attn_k_norm: Weight
    post_attention_norm: Weight
    post_ffw_norm: Weight


@dataclass(frozen=True)
class Network(gemma.Network):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """A window for all blocks but the global ones."""
    windows = [hp.sliding_window if hp.slides(i) else 0 for i in range(hp.n_blocks)]
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, window) for window in windows]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.rms_norm(nn.rows(blocks(net, hp, batch, cache), batch.outputs), net.output_norm, hp.norm_eps)
    logits = nn.linear(x, net.output or net.token_embd)
    return nn.softcap(logits, hp.final_softcap) if hp.final_softcap else logits


def blocks(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """What all blocks make of the tokens: (T, hidden)."""
    x: Tensor = nn.embedding(batch.tokens, net.token_embd) * hp.hidden_size**0.5
    far, near = nn.frequencies(hp.rope), nn.frequencies(nn.Rope(hp.rope_theta_local, hp.rope.dim))
    for i, (block, kv) in enumerate(zip(net.blk, cache, strict=True)):
        y = nn.rms_norm(x, block.attn_norm, hp.norm_eps)
        y = attention(block, hp, y, near if hp.slides(i) else far, batch, kv)
        x = x + nn.rms_norm(y, block.post_attention_norm, hp.norm_eps)
        y = gemma.feed_forward(block, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
        x = x + nn.rms_norm(y, block.post_ffw_norm, hp.norm_eps)
    return x


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = nn.rms_norm(q, block.attn_q_norm, hp.norm_eps), nn.rms_norm(k, block.attn_k_norm, hp.norm_eps)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves") for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.scale), block.attn_output)


HF_NAMES = gemma.HF_NAMES | {
    "model.layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
    "model.layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm",
    "model.layers.{}.pre_feedforward_layernorm": "blk.{}.ffn_norm",
    "model.layers.{}.post_feedforward_layernorm": "blk.{}.post_ffw_norm",
}
from_hf = gemma.from_hf


def hparams_from_hf(config: Config) -> Hparams:
    """Rotary bases and the pattern of windows are said in several ways."""
    known: dict[str, Any] = {**config, "sliding_window_pattern": _pattern(config)}
    if config.get("rope_parameters"):
        local = rope.from_hf(config, config["head_dim"], "sliding_attention")
        known["rope_local_base_freq"] = local.theta
        if local.scaling != "none":
            raise ModelError(f"gemma3: rotary scaling '{local.scaling}' of blocks with a window is not supported")
    hp = Hparams.from_hf("gemma3", known)
    scale = float(config["query_pre_attn_scalar"]) ** -0.5
    return hp if abs(scale - hp.scale) < 1e-9 else replace(hp, attention_scale=scale)


def _pattern(config: Config) -> tuple[bool, ...]:
    if types := config.get("layer_types"):
        return tuple(t == "sliding_attention" for t in types)
    every, blocks = config["sliding_window_pattern"], config["num_hidden_layers"]
    return tuple((i + 1) % every != 0 for i in range(blocks))
