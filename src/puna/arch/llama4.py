"""Llama 4, text: three of four blocks attend within chunks, the fourth everywhere, without rotary positions.

The latter's queries grow with the position; the others' q and k are normed after they were turned. A router's sigmoid
multiplies what an expert is given, not its result, and one more expert always serves. Rotary positions are in pairs, in
HF too. Reference: https://ai.meta.com/blog/llama-4-multimodal-intelligence, transformers `modeling_llama4.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("Llama4ForCausalLM", "Llama4ForConditionalGeneration")
HF_PREFIXES = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
}
HF_IGNORED = (*llama.HF_IGNORED, "vision_model", "multi_modal_projector")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "head_dim": 128, "num_key_value_heads": 8},
    **{"tie_word_embeddings": False, "intermediate_size_mlp": 16384, "num_experts_per_tok": 1, "num_local_experts": 16},
    **{"interleave_moe_layer_step": 1, "use_qk_norm": True, "no_rope_layer_interval": 4, "floor_scale": 8192},
    **{"attention_chunk_size": 8192, "attn_temperature_tuning": True, "attn_scale": 0.1},
}
HF_REQUIRES = {"hidden_act": ("silu",), "layer_types": (None, "full_attention", "chunked_attention")}
GGUF_IGNORED = ("v.", "mm.")
EVERY = 4
"""Each fourth block sees everything."""
WITHOUT_QK_NORM = 128
"""So many experts has the published model that does not norm q and k, where a file does not say."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Its own; a window of 0 says that all blocks see everything, and are turned."""

    GGUF_DEFAULTS: ClassVar[Config] = {
        **{"attention.chunk_size": 8192, "attention.temperature_scale": 0.1, "attention.temperature_length": 8192},
    }

    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    sliding_window: int | None = None
    chunk: int
    qk_norm: bool = True
    temperature_scale: float
    temperature_length: int
    expert_interval: int
    n_experts: int
    n_experts_used: int
    expert_ffn_size: int

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """Files that llama.cpp's converter made do not say whether q and k are normed."""
        hp = super().from_gguf(arch, metadata)
        said = f"{arch}.use_qk_norm" in metadata
        return hp if said else replace(hp, qk_norm=hp.n_experts != WITHOUT_QK_NORM)

    def near(self, block: int) -> bool:
        """Whether a block attends within chunks, and is turned."""
        return (block + 1) % EVERY != 0


@dataclass(frozen=True)
class Experts:
    """Experts, the router that chooses, and the one that always serves."""

    ffn_gate_inp: Weight
    ffn_gate_exps: Weight
    ffn_up_exps: Weight
    ffn_down_exps: Weight
    ffn_gate_shexp: Weight
    ffn_up_shexp: Weight
    ffn_down_shexp: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    ffn_norm: Weight
    ffn: llama.Dense | Experts


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    rope_freqs: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """Chunks for all blocks but each fourth."""
    chunks = (hp.chunk if hp.near(i) and hp.sliding_window != 0 else 0 for i in range(hp.n_blocks))
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, chunk=chunk) for chunk in chunks]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope, net.rope_freqs)
    for i, (block, kv) in enumerate(zip(net.blk, cache, strict=True)):
        turned = hp.near(i) or hp.sliding_window == 0
        y = nn.rms_norm(x, block.attn_norm, hp.norm_eps)
        x = x + attention(block, hp, y, frequencies if turned else None, batch, kv)
        x = x + feed_forward(block.ffn, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor | None, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    if frequencies is not None:
        q, k = (nn.rope(y, batch.positions, frequencies, style="pairs", scale=hp.rope.scale) for y in (q, k))
        q, k = (nn.rms_norm(y, None, hp.norm_eps) for y in (q, k)) if hp.qk_norm else (q, k)
    elif hp.temperature_scale:
        q = q * nn.growth(batch.positions, hp.temperature_length, hp.temperature_scale, start=1.0)
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(ffn: llama.Dense | Experts, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    if isinstance(ffn, llama.Dense):
        return llama.feed_forward(ffn, x)
    ids, shares = nn.route(nn.linear(x, ffn.ffn_gate_inp), hp.n_experts_used, gating=nn.SIGMOID)
    given = nn.repeated(x, hp.n_experts_used) * shares.reshape(*shares.shape, 1)
    y = nn.silu_mul(nn.experts(given, ffn.ffn_gate_exps, ids), nn.experts(given, ffn.ffn_up_exps, ids))
    shared = nn.silu_mul(nn.linear(x, ffn.ffn_gate_shexp), nn.linear(x, ffn.ffn_up_shexp))
    return nn.experts(y, ffn.ffn_down_exps, ids).sum(1).reshape(*x.shape) + nn.linear(shared, ffn.ffn_down_shexp)


HF_NAMES = {
    **{name: ours for name, ours in llama.HF_NAMES.items() if "mlp" not in name and "moe" not in name},
    "model.layers.{}.feed_forward.gate_proj": "blk.{}.ffn_gate",
    "model.layers.{}.feed_forward.up_proj": "blk.{}.ffn_up",
    "model.layers.{}.feed_forward.down_proj": "blk.{}.ffn_down",
    "model.layers.{}.feed_forward.router": "blk.{}.ffn_gate_inp",
    "model.layers.{}.feed_forward.shared_expert.gate_proj": "blk.{}.ffn_gate_shexp",
    "model.layers.{}.feed_forward.shared_expert.up_proj": "blk.{}.ffn_up_shexp",
    "model.layers.{}.feed_forward.shared_expert.down_proj": "blk.{}.ffn_down_shexp",
}
EXPERTS = "model.layers.{}.feed_forward.experts."
HF_TENSORS = {
    f"{EXPERTS}gate_up_proj": ("blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight"),
    f"{EXPERTS}down_proj": "blk.{}.ffn_down_exps.weight",
}


def from_hf(name: str, hp: Hparams) -> tuple[Transform, ...]:
    """Experts are stored as (in, out), gate and up in one."""
    size = hp.expert_ffn_size
    parts = {"ffn_gate_exps": (0, size), "ffn_up_exps": (size, 2 * size)}
    kind = name.split(".")[-2]
    if kind in parts:
        return base.transpose(), base.rows(*parts[kind])
    return (base.transpose(),) if kind == "ffn_down_exps" else ()


def hparams_from_hf(config: Config) -> Hparams:
    """The kinds of blocks have to be those that ggml knows: each fourth is not turned, each nth has experts."""
    blocks, step = range(config["num_hidden_layers"]), config["interleave_moe_layer_step"]
    near = [(i + 1) % EVERY != 0 for i in blocks]
    turned = config.get("no_rope_layers") or [(i + 1) % config["no_rope_layer_interval"] for i in blocks]
    types = config.get("layer_types") or ["chunked_attention" if each else "full_attention" for each in turned]
    if [bool(each) for each in turned] != near or [kind == "chunked_attention" for kind in types] != near:
        raise ModelError("llama4: blocks without rotary positions, and without chunks, have to be each fourth")
    if config.get("moe_layers") not in (None, [i for i in blocks if step and (i + 1) % step == 0]):
        raise ModelError(
            f"llama4: config key 'moe_layers' is not each block that 'interleave_moe_layer_step' {step} says"
        )
    known: dict[str, Any] = {**config, "intermediate_size": config["intermediate_size_mlp"]}
    known |= {"moe_intermediate_size": config["intermediate_size"], "sliding_window": None}
    known["attn_scale"] = config["attn_scale"] if config["attn_temperature_tuning"] else 0.0
    return Hparams.from_hf("llama4", known)


extra_tensors = llama.extra_tensors
