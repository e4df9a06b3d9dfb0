"""OLMo 2 and 3: norms after each half of a block instead of before it, and over the whole width of q and of k.

OLMo 3 has a window on three of four blocks, whose rotary positions are not stretched. They are in halves. Ollama calls
it `olmo3`. Reference: https://arxiv.org/abs/2501.00656, transformers `modeling_olmo2.py`, `modeling_olmo3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.errors import ModelError
from puna.graph import Tensor

GGUF_NAMES = ("olmo3",)
HF_CLASSES = ("Olmo2ForCausalLM", "Olmo3ForCausalLM")
KNOWN = ("allenai/OLMo-2-0425-1B", "allenai/OLMo-2-1124-13B", "allenai/Olmo-3-7B-Instruct")
HF_DEFAULTS = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False}
HF_REQUIRES = {"hidden_act": ("silu",), "layer_types": (None, "full_attention", "sliding_attention")}
EVERY = 4
"""Each fourth block of OLMo 3 sees everything, where a file does not say."""


@dataclass(frozen=True, kw_only=True)
class Hparams(llama.Hparams):
    """OLMo's own. `sliding_window_pattern`: whether each block sees a window only."""

    sliding_window_pattern: tuple[bool, ...] | None = None

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """Ollama says the whole of yarn's attention factor where others say what its default is multiplied by."""
        hp = super().from_gguf(arch, metadata)
        whole = metadata.get("olmo3.rope.scaling.attn_factor")
        if metadata.get("general.architecture") not in GGUF_NAMES or not whole:
            return hp
        return replace(hp, rope=replace(hp.rope, attention_factor=float(whole)))

    def slides(self, block: int) -> bool:
        """Whether a block sees a window only."""
        pattern = self.sliding_window_pattern
        if pattern and len(pattern) != self.n_blocks:
            raise ModelError(f"the window pattern has {len(pattern)} blocks, the model {self.n_blocks}")
        return bool(self.sliding_window) and (pattern[block] if pattern else (block + 1) % EVERY != 0)


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_q: Weight
    attn_q_norm: Weight
    attn_k: Weight
    attn_k_norm: Weight
    attn_v: Weight
    attn_output: Weight
    post_attention_norm: Weight
    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight
    post_ffw_norm: Weight


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """A window for the blocks that slide."""
    windows = (hp.sliding_window or 0 if hp.slides(i) else 0 for i in range(hp.n_blocks))
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, window) for window in windows]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    near = nn.Rope(hp.rope.theta, hp.rope.dim)
    for i, (block, kv) in enumerate(zip(net.blk, cache, strict=True)):
        y = attention(block, hp, x, near if hp.slides(i) else hp.rope, batch, kv)
        x = x + nn.rms_norm(y, block.post_attention_norm, hp.norm_eps)
        x = x + nn.rms_norm(llama.feed_forward(block, x), block.post_ffw_norm, hp.norm_eps)
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, rope: nn.Rope, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q = nn.heads(nn.rms_norm(nn.linear(x, block.attn_q), block.attn_q_norm, hp.norm_eps), hp.n_heads)
    k = nn.heads(nn.rms_norm(nn.linear(x, block.attn_k), block.attn_k_norm, hp.norm_eps), hp.n_kv_heads)
    v = nn.heads(nn.linear(x, block.attn_v), hp.n_kv_heads)
    frequencies = nn.frequencies(rope)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


HF_NAMES = llama.HF_NAMES | {
    "model.layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
    "model.layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm",
    "model.layers.{}.post_feedforward_layernorm": "blk.{}.post_ffw_norm",
}
HF_IGNORED = llama.HF_IGNORED


def hparams_from_hf(config: Config) -> Hparams:
    """Only OLMo 3 heeds a window, on the blocks that its config lists, or on three of four."""
    if "Olmo3ForCausalLM" not in config["architectures"]:
        return Hparams.from_hf("olmo2", {**config, "sliding_window": None})
    blocks = range(config["num_hidden_layers"])
    types = config.get("layer_types") or ["sliding_attention" if (i + 1) % EVERY else "full_attention" for i in blocks]
    pattern = [kind == "sliding_attention" for kind in types]
    return Hparams.from_hf("olmo2", {"sliding_window": 4096, **config, "sliding_window_pattern": pattern})
