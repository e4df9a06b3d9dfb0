"""Granite 4: Granite with blocks of Mamba 2 between those that attend; experts and one that always serves, or neither.

Published files have rotary positions in no block, or in all that attend. A checkpoint calls a single feed-forward part
shared, too, where there are no experts. Reference: https://huggingface.co/ibm-granite/granite-4.0-h-small, transformers
`modeling_granitemoehybrid.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from puna import nn
from puna.arch import base, mamba2, mixture
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.cache import recurrent
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("GraniteMoeHybridForCausalLM",)
KNOWN = ("ibm-granite/granite-4.0-h-tiny", "ibm-granite/granite-4.0-h-small", "ibm-granite/granite-4.0-h-1b")
MULTIPLIERS = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")
HF_DEFAULTS = {
    **dict.fromkeys(MULTIPLIERS, 1.0),
    **{"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "num_local_experts": 8, "num_experts_per_tok": 2},
    **{"shared_intermediate_size": 1024, "position_embedding_type": None, "tie_word_embeddings": False},
    **{"mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2},
}
MIXING, ATTENDING = ("mamba", "linear_attention"), ("attention", "full_attention")
HF_REQUIRES = {
    **{"hidden_act": (None, "silu"), "time_step_limit": mamba2.ENDLESS, "sliding_window": (None,)},
    **{"layer_types": (None, *MIXING, *ATTENDING), "position_embedding_type": (None, "nope", "rope")},
    **{"mamba_n_groups": (1,), "mamba_proj_bias": (None, False)},  # of more groups ggml norms each by itself
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Its own; a block without K/V heads is one of Mamba 2. A scale of 0 is none, logits are divided by theirs.

    `rope_finetuned` False: no positions.
    """

    n_kv_heads: tuple[int, ...]
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    logit_scale: float = 1.0
    attention_scale: float = 0.0
    embedding_scale: float = 0.0
    residual_scale: float = 0.0
    rope_finetuned: bool | None = None
    n_experts: int | None = None
    n_experts_used: int | None = None
    shared_ffn_size: int | None = None
    gating = nn.SOFTMAX_OF_CHOSEN
    ssm_conv: int
    ssm_inner: int
    ssm_state: int
    ssm_rank: int
    ssm_groups: int


@dataclass(frozen=True)
class Attention:
    """Of a block that attends."""

    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: mamba2.Mixer | Attention
    ffn_norm: Weight
    ffn: mixture.Dense | mixture.Experts


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """K/V for the blocks that attend, memory per sequence for the others."""
    mixing = recurrent(*mamba2.memory(hp))
    return [Spec(count, hp.head_dim, hp.head_dim) if count else mixing for count in hp.n_kv_heads]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd) * (hp.embedding_scale or 1.0)
    frequencies = None if hp.rope_finetuned is False else nn.frequencies(hp.rope)
    part = hp.residual_scale or 1.0
    for block, kv in zip(net.blk, cache, strict=True):
        y, mixer = nn.rms_norm(x, block.attn_norm, hp.norm_eps), block.mixer
        if isinstance(mixer, Attention):
            y = attention(mixer, hp, y, frequencies, batch, kv)
        else:
            y = mamba2.mix(mixer, hp, y, batch, kv)
        x = x + y * part
        x = x + mixture.feed_forward(block.ffn, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps)) * part
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd) / hp.logit_scale


def attention(block: Attention, hp: Hparams, x: Tensor, frequencies: Tensor | None, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, kv.spec.heads)
    if frequencies is not None:
        q, k = (nn.rope(y, batch.positions, frequencies, style="pairs", scale=hp.rope.scale) for y in (q, k))
    y = nn.attention(q, k, v, batch, kv, scale=hp.attention_scale or hp.head_dim**-0.5)
    return nn.linear(y, block.attn_output)


_BLOCK = "model.layers.{}."
HF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    f"{_BLOCK}input_layernorm": "blk.{}.attn_norm",
    f"{_BLOCK}post_attention_layernorm": "blk.{}.ffn_norm",
    **{f"{_BLOCK}mamba.{part}": f"blk.{{}}.{name}" for part, name in mamba2.MIXER.items()},
    **{f"{_BLOCK}self_attn.{part}_proj": f"blk.{{}}.attn_{part}" for part in "qkv"},
    f"{_BLOCK}self_attn.o_proj": "blk.{}.attn_output",
    f"{_BLOCK}block_sparse_moe.router.layer": "blk.{}.ffn_gate_inp",
    f"{_BLOCK}block_sparse_moe.input_linear": ("blk.{}.ffn_gate_exps", "blk.{}.ffn_up_exps"),
    f"{_BLOCK}block_sparse_moe.output_linear": "blk.{}.ffn_down_exps",
    f"{_BLOCK}shared_mlp.input_linear": ("blk.{}.ffn_gate_shexp", "blk.{}.ffn_up_shexp"),
    f"{_BLOCK}shared_mlp.output_linear": "blk.{}.ffn_down_shexp",
}
HF_TENSORS = {f"{_BLOCK}mamba.{part}": f"blk.{{}}.{name}" for part, name in mamba2.VECTORS.items()}


def renamed(name: str, hp: Hparams | None) -> str:
    """What is shared is all there is, where there are no experts."""
    return name if hp and hp.n_experts else name.replace("_shexp", "")


def from_hf(name: str, hp: Hparams) -> Transform | tuple[Transform, ...] | None:
    """Gates stand above ups; ggml turns pairs of neighbours."""
    size, shared, part = hp.ffn_size, hp.shared_ffn_size or hp.ffn_size, name.split(".")[-2]
    changes = {
        **{"ffn_gate_exps": base.rows(0, size), "ffn_up_exps": base.rows(size, 2 * size)},
        **{"ffn_gate_shexp": base.rows(0, shared), "ffn_up_shexp": base.rows(shared, 2 * shared)},
        **{"ffn_gate": base.rows(0, size), "ffn_up": base.rows(size, 2 * size)},
        **{"attn_q": base.permute_rope(hp.n_heads), "attn_k": base.permute_rope(max(1, *hp.n_kv_heads))},
    }
    return changes.get(part) or mamba2.from_hf(name, hp)


def hparams_from_hf(config: Config) -> Hparams:
    """Kinds of blocks are said one by one; ModelError for a multiplier of 0, which a file cannot say."""
    for key in MULTIPLIERS:
        if not config[key]:
            raise ModelError(f"granitehybrid: config.json: '{key}' is {config[key]}; another number works")
    kinds = config.get("layer_types") or config.get("layers_block_type") or ["mamba"] * config["num_hidden_layers"]
    count, turned = config["num_local_experts"], config["position_embedding_type"] == "rope"
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    known = {
        **{**config, "num_key_value_heads": [heads if kind in ATTENDING else 0 for kind in kinds]},
        **{"mamba_dt_rank": config["mamba_n_heads"], "ssm_inner": int(config["mamba_expand"] * config["hidden_size"])},
    }
    known |= {} if turned else {"max_position_embeddings": mamba2.LONG}
    known |= {} if count else dict.fromkeys(("num_local_experts", "num_experts_per_tok", "shared_intermediate_size"))
    size = config["intermediate_size"] if count else config["shared_intermediate_size"]
    return replace(Hparams.from_hf("granitehybrid", {**known, "intermediate_size": size}), rope_finetuned=turned)
