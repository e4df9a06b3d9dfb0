"""gpt-oss: attention with sinks, a window on every second block, biases everywhere, experts with a clamped SwiGLU.

A sink is one more score a head, without a value. Gates and ups alternate in the checkpoint's rows; its MXFP4 blocks
stay as they are. Yarn's bounds are not rounded, which ggml's files do not say and llama.cpp does not do. Ollama calls
it `gptoss` and some tensors otherwise. Reference: https://arxiv.org/abs/2508.10925, transformers `modeling_gpt_oss.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from puna import nn
from puna.arch import base, llama
from puna.arch.base import KV, Batch, Biased, Config, Spec, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

NAME = "gpt-oss"
GGUF_NAMES = ("gptoss",)
HF_CLASSES = ("GptOssForCausalLM",)
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 150000.0, "head_dim": 64, "sliding_window": 128},
    **{"swiglu_limit": 7.0, "num_local_experts": 128, "num_experts_per_tok": 4, "tie_word_embeddings": False},
}
HF_REQUIRES = {
    **{"hidden_act": ("silu",), "swiglu_alpha": (None, ALPHA := 1.702), "attention_bias": (None, True)},
    "layer_types": (None, "full_attention", "sliding_attention"),
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """gpt-oss' own. `sliding_window_pattern`: whether each block sees a window only; without it, the even ones."""

    GGUF_DEFAULTS: ClassVar = {"rope.scaling.yarn_truncate": False}

    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    sliding_window: int
    sliding_window_pattern: tuple[bool, ...] | None = None
    n_experts: int
    n_experts_used: int
    expert_ffn_size: int | None = None
    swiglu_limit: float = 7.0

    def slides(self, block: int) -> bool:
        """Whether a block sees a window only."""
        pattern = self.sliding_window_pattern
        if pattern and len(pattern) != self.n_blocks:
            raise ModelError(f"gpt-oss: the window pattern has {len(pattern)} blocks, the model {self.n_blocks}")
        return pattern[block] if pattern else block % 2 == 0


@dataclass(frozen=True)
class Heads:
    """q, k and v."""

    attn_q: Biased
    attn_k: Biased
    attn_v: Biased


@dataclass(frozen=True)
class Fused:
    """q, k and v as one, in some older files."""

    attn_qkv: Biased


@dataclass(frozen=True)
class Block:
    """Weights of one block; the names that stand second are Ollama's."""

    attn_norm: Weight
    heads: Heads | Fused
    attn_output: Annotated[Biased, "attn_output.weight", "attn_out.weight"]
    attn_sinks: Annotated[Weight, "attn_sinks.weight", "attn_sinks"]
    post_attention_norm: Annotated[Weight, "post_attention_norm.weight", "ffn_norm.weight"]
    ffn_gate_inp: Biased
    ffn_gate_exps: Biased
    ffn_up_exps: Biased
    ffn_down_exps: Biased


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """A window for the blocks that slide."""
    windows = (hp.sliding_window if hp.slides(i) else 0 for i in range(hp.n_blocks))
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, window) for window in windows]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), frequencies, batch, kv)
        x = x + feed_forward(block, hp, nn.rms_norm(x, block.post_attention_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    if isinstance(block.heads, Fused):
        sizes = [count * hp.head_dim for count in (hp.n_heads, hp.n_kv_heads, hp.n_kv_heads)]
        q, k, v = nn.split(nn.linear(x, block.heads.attn_qkv), 1, sizes)
    else:
        q, k, v = (nn.linear(x, w) for w in (block.heads.attn_q, block.heads.attn_k, block.heads.attn_v))
    q, k, v = nn.heads(q, hp.n_heads), nn.heads(k, hp.n_kv_heads), nn.heads(v, hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    y = nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5, sinks=block.attn_sinks)
    return nn.linear(y, block.attn_output)


def feed_forward(block: Block, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    ids, shares = nn.route(nn.linear(x, block.ffn_gate_inp), hp.n_experts_used, gating=nn.SOFTMAX_OF_CHOSEN)
    gate, up = nn.experts(x, block.ffn_gate_exps, ids), nn.experts(x, block.ffn_up_exps, ids)
    return nn.weighed(nn.experts(nn.clamped_swiglu(gate, up, ALPHA, hp.swiglu_limit), block.ffn_down_exps, ids), shares)


HF_NAMES = llama.HF_NAMES | {
    "model.layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm",
    "model.layers.{}.mlp.router": "blk.{}.ffn_gate_inp",
}
_BOTH = ("blk.{}.ffn_gate_exps", "blk.{}.ffn_up_exps")
HF_TENSORS = {
    "model.layers.{}.self_attn.sinks": "blk.{}.attn_sinks.weight",
    "model.layers.{}.mlp.experts.gate_up_proj": tuple(f"{name}.weight" for name in _BOTH),
    "model.layers.{}.mlp.experts.gate_up_proj_bias": tuple(f"{name}.bias" for name in _BOTH),
    "model.layers.{}.mlp.experts.down_proj": "blk.{}.ffn_down_exps.weight",
    "model.layers.{}.mlp.experts.down_proj_bias": "blk.{}.ffn_down_exps.bias",
}
HF_IGNORED = llama.HF_IGNORED


def from_hf(name: str, hp: Hparams) -> tuple[Transform, ...] | None:
    """Experts are stored as (in, out); gates and ups alternate."""
    kind, ending = name.split(".")[-2:]
    turn, end = base.transpose(), 2 * hp.ffn_size
    places = {"ffn_gate_exps": (base.rows(0, end, 2),), "ffn_up_exps": (base.rows(1, end, 2),), "ffn_down_exps": ()}
    if kind not in places:
        return None
    if ending == "weight":
        return (turn, *places[kind])
    return (turn, *places[kind], turn) if places[kind] else None


def hparams_from_hf(config: Config) -> Hparams:
    """Experts have the size that the config calls the feed-forward's; the usual windows need not be said."""
    types = config.get("layer_types") or []
    pattern = [kind == "sliding_attention" for kind in types]
    usual = pattern == [i % 2 == 0 for i in range(len(types))]
    known = {**config, "moe_intermediate_size": config["intermediate_size"]}
    return Hparams.from_hf(NAME, {**known, "sliding_window_pattern": None if usual else pattern})
