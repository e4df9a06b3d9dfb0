"""Llama 1-3, SmolLM, Mistral, Mixtral, Yi: grouped-query attention, rotary positions in pairs, gated SiLU, RMS norms.

Llama 3.1 and later divide the rotary frequencies by a stored tensor, `rope_freqs.weight`. Output may be tied to the
embedding; biases are optional. Mixtral has experts, whose shares are the softmax over those chosen. Reference:
https://arxiv.org/abs/2302.13971, https://arxiv.org/abs/2401.04088, transformers `modeling_llama.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from puna import nn
from puna.arch import base, mixture, rope
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

Dense = mixture.Dense
HF_CLASSES = (
    *("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "MinistralForCausalLM"),
    *("InternLM3ForCausalLM", "YiForCausalLM", "AquilaForCausalLM", "LLaMAForCausalLM"),
)
KNOWN = (
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.2-1B",
    "mistralai/Mistral-7B-v0.3",
    "mistralai/Mixtral-8x7B-v0.1",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "01-ai/Yi-1.5-6B-Chat",
    "deepseek-ai/deepseek-coder-6.7b-instruct",
    "internlm/internlm3-8b-instruct",
    "tiiuae/Falcon3-1B-Instruct",
)
WINDOWED = ("MistralForCausalLM", "MixtralForCausalLM", "MinistralForCausalLM")
"""Those that heed a window."""
HF_DEFAULTS = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0}
HF_REQUIRES = {"hidden_act": ("silu",), "layer_types": (None, "full_attention")}
HF_CLASS_REQUIRES = {"MinistralForCausalLM": {"layer_types": (None, "full_attention", "sliding_attention")}}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Llama's own; the first Mistral looks back through a window, Mixtral chooses among experts."""

    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    sliding_window: int | None = None
    n_experts: int | None = None
    n_experts_used: int | None = None
    gating = nn.SOFTMAX_OF_CHOSEN


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    ffn_norm: Weight
    ffn: mixture.Dense | mixture.Experts


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    rope_freqs: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """All blocks alike."""
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, hp.sliding_window or 0)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return decoder(net, hp, batch, cache, attention)


def decoder(net: Any, hp: Any, batch: Batch, cache: Sequence[KV], attention: Callable[..., Tensor]) -> Tensor:
    """Logits (O, vocab) of pre-norm blocks with this `attention`, which siblings vary."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope, net.rope_freqs)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + mixture.feed_forward(block.ffn, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(
    block: Any, hp: Any, x: Tensor, frequencies: Tensor | None, batch: Batch, kv: KV, *, scale: float = 0.0
) -> Tensor:
    """(T, hidden) to (T, hidden); without frequencies positions turn nothing; a scale of 0 is the usual one."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    if frequencies is not None:
        q, k = (nn.rope(y, batch.positions, frequencies, style="pairs", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=scale or hp.head_dim**-0.5), block.attn_output)


def feed_forward(ffn: Any, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden), by one network."""
    return mixture.dense(x, ffn.ffn_gate, ffn.ffn_up, ffn.ffn_down)


HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q",
    "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v",
    "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
    "model.layers.{}.mlp.gate_proj": "blk.{}.ffn_gate",
    "model.layers.{}.mlp.up_proj": "blk.{}.ffn_up",
    "model.layers.{}.mlp.down_proj": "blk.{}.ffn_down",
    "model.layers.{}.block_sparse_moe.gate": "blk.{}.ffn_gate_inp",
    "model.layers.{}.block_sparse_moe.experts.{}.w1": "blk.{}.ffn_gate_exps",
    "model.layers.{}.block_sparse_moe.experts.{}.w2": "blk.{}.ffn_down_exps",
    "model.layers.{}.block_sparse_moe.experts.{}.w3": "blk.{}.ffn_up_exps",
}
HF_IGNORED = ("rotary_emb.inv_freq",)


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """ggml turns pairs of neighbours, HF turns halves."""
    heads = {"attn_q": hp.n_heads, "attn_k": hp.n_kv_heads}.get(name.split(".")[-2])
    return None if heads is None else base.permute_rope(heads)


def hparams_from_hf(config: Config) -> Hparams:
    """A window where the class heeds one; Ministral's is on every block, or ModelError."""
    (cls, *_), kinds = config["architectures"], set(config.get("layer_types") or ())
    if len(kinds) > 1:
        raise ModelError(f"llama: 'layer_types' are {sorted(kinds)}; windows on every block or on none work")
    window = config.get("sliding_window", 4096 if cls == "MinistralForCausalLM" else None)
    heeded = cls in WINDOWED and kinds != {"full_attention"}
    return Hparams.from_hf("llama", {**config, "sliding_window": window if heeded else None})


def extra_tensors(config: Config, hp: Hparams) -> dict[str, list[float]]:
    """Llama 3's frequency factors."""
    factors = rope.llama3_factors(config, hp.rope.dim)
    return {} if factors is None else {"rope_freqs.weight": factors}
