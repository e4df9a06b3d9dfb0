"""Falcon-H1: attention and Mamba 2 side by side in each block, on the same input; their results are added.

What a checkpoint multiplies on the way, ggml has multiplied into the weights, so that nothing is left to do here.
Reference: https://arxiv.org/abs/2507.22448, transformers `modeling_falcon_h1.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from puna import nn
from puna.arch import base, mamba2, mixture
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

NAME = "falcon-h1"
HF_CLASSES = ("FalconH1ForCausalLM",)
KNOWN = ("tiiuae/Falcon-H1-0.5B-Instruct", "tiiuae/Falcon-H1-7B-Instruct", "tiiuae/Falcon-H1-34B-Instruct")
MULTIPLIERS = (
    *("embedding_multiplier", "lm_head_multiplier", "key_multiplier", "attention_in_multiplier"),
    *("attention_out_multiplier", "ssm_in_multiplier", "ssm_out_multiplier"),
)
HF_DEFAULTS = {
    **dict.fromkeys(MULTIPLIERS, 1.0),
    **{"mlp_multipliers": [1.0, 1.0], "ssm_multipliers": [1.0] * 5, "rope_theta": 10000.0, "rms_norm_eps": 1e-5},
    **{"num_key_value_heads": 8, "mamba_d_ssm": 1024, "mamba_n_heads": 128, "mamba_n_groups": 1},
    **{"mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_norm_before_gate": True},
    **{"mamba_rms_norm": False, "tie_word_embeddings": False},
}
HF_REQUIRES = {
    **{"hidden_act": (None, "silu"), "time_step_limit": mamba2.ENDLESS, "sliding_window": (None,)},
    **dict.fromkeys(("attention_bias", "mlp_bias", "projectors_bias", "mamba_proj_bias"), (None, False)),
    "tie_word_embeddings": (False,),  # the embedding and the output have multipliers of their own
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Its own. Multipliers are in a checkpoint's config only: they are in a file's weights."""

    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    ssm_conv: int
    ssm_inner: int
    ssm_state: int
    ssm_rank: int
    ssm_groups: int
    multipliers: tuple[float, ...] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight
    mixer: mamba2.Mixer
    ffn_norm: Annotated[Weight, "ffn_norm", "ffn_norm.weight"]
    ffn: mixture.Dense


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """K/V and Mamba 2's memory in every block."""
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, recurrent=mamba2.memory(hp))] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope)
    for block, kv in zip(net.blk, cache, strict=True):
        y = nn.rms_norm(x, block.attn_norm, hp.norm_eps)
        x = x + (attention(block, hp, y, frequencies, batch, kv) + mamba2.mix(block.mixer, hp, y, batch, kv))
        x = x + mixture.feed_forward(block.ffn, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


_BLOCK = "model.layers.{}."
HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.final_layernorm": "output_norm",
    "lm_head": "output",
    f"{_BLOCK}input_layernorm": "blk.{}.attn_norm",
    **{f"{_BLOCK}mamba.{part}": f"blk.{{}}.{name}" for part, name in mamba2.MIXER.items()},
    **{f"{_BLOCK}self_attn.{part}_proj": f"blk.{{}}.attn_{part}" for part in "qkv"},
    f"{_BLOCK}self_attn.o_proj": "blk.{}.attn_output",
    **{f"{_BLOCK}feed_forward.{part}_proj": f"blk.{{}}.ffn_{part}" for part in ("gate", "up", "down")},
}
HF_TENSORS = {
    f"{_BLOCK}pre_ff_layernorm.weight": "blk.{}.ffn_norm",
    **{f"{_BLOCK}mamba.{part}": f"blk.{{}}.{name}" for part, name in mamba2.VECTORS.items()},
}


def from_hf(name: str, hp: Hparams) -> Transform | tuple[Transform, ...] | None:
    """Multipliers go into the weights that come before or after them."""
    if hp.multipliers is None:
        raise ModelError(f"{NAME}: a checkpoint's multipliers are not said")
    embedding, output, key, into, out_of, ssm_into, ssm_out_of, gate, down, *parts = hp.multipliers
    shared = hp.ssm_groups * hp.ssm_state
    sizes = (hp.ssm_inner, hp.ssm_inner, shared, shared, hp.ssm_rank)
    factors: dict[str, tuple[float, ...]] = {
        **{"token_embd.weight": (embedding,), "output.weight": (output,)},
        **{"attn_q.weight": (into,), "attn_k.weight": (key, into), "attn_v.weight": (into,)},
        **{"attn_output.weight": (out_of,), "ssm_in.weight": (ssm_into,), "ssm_out.weight": (ssm_out_of,)},
        **{"ffn_gate.weight": (gate,), "ffn_down.weight": (down,)},
    }
    part = name.split(".", 2)[-1] if name.startswith("blk.") else name
    if part not in factors:
        return mamba2.from_hf(name, hp)
    scales = tuple(base.scale(factor) for factor in factors[part] if factor != 1)
    by_rows = part == "ssm_in.weight" and any(factor != 1 for factor in parts)
    return (*scales, base.scale_rows(*zip(sizes, parts, strict=True))) if by_rows else scales


def hparams_from_hf(config: Config) -> Hparams:
    """Sizes may follow from others; ModelError for a norm of Mamba 2's results before they meet their gate."""
    if config["mamba_rms_norm"] and config["mamba_norm_before_gate"]:
        raise ModelError(f"{NAME}: config.json: 'mamba_norm_before_gate' is true; false works where there is a norm")
    inner = config["mamba_d_ssm"] or int(config["mamba_expand"] * config["hidden_size"])
    groups = (config["mlp_multipliers"] or [1.0] * 2, config["ssm_multipliers"] or [1.0] * 5)
    known = {
        **{**config, "ssm_inner": inner, "mamba_dt_rank": config["mamba_n_heads"]},
        "multipliers": [float(each) for each in (*(config[name] for name in MULTIPLIERS), *groups[0], *groups[1])],
    }
    return Hparams.from_hf(NAME, known)
