"""Nemotron-H: blocks of one part each: Mamba 2, attention without positions, or a feed-forward part of squared ReLU.

Which block is what follows from its weights. Reference: https://arxiv.org/abs/2504.03624, transformers
`modeling_nemotron_h.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from puna import nn
from puna.arch import base, mamba2
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.cache import recurrent
from puna.errors import ConversionError
from puna.graph import Tensor

HF_CLASSES = ("NemotronHForCausalLM",)
HF_DEFAULTS = {
    **{"head_dim": 128, "num_key_value_heads": 8, "n_groups": 8, "ssm_state_size": 128, "conv_kernel": 4},
    **{"layer_norm_epsilon": 1e-5, "mamba_num_heads": 128, "mamba_head_dim": 64, "tie_word_embeddings": False},
}
HF_REQUIRES = {
    **{"mlp_hidden_act": (None, "relu2"), "mamba_hidden_act": (None, "silu"), "sliding_window": (None,)},
    "time_step_limit": mamba2.ENDLESS,
}

KINDS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
NAMES = {"linear_attention": "mamba", "full_attention": "attention"} | {kind: kind for kind in KINDS.values()}
"""What config.json calls a block, letter by letter or in words."""
Mixer = mamba2.Mixer


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Nemotron-H's own; a block without K/V heads and without a feed-forward size is one of Mamba 2."""

    ffn_size: tuple[int, ...]  # type: ignore[assignment]  # 0 in the other blocks
    n_kv_heads: tuple[int, ...]
    head_dim: int
    layer_norm_eps: float
    ssm_conv: int
    ssm_inner: int
    ssm_state: int
    ssm_rank: int
    ssm_groups: int
    rope_finetuned: bool = False

    @property
    def norm_eps(self) -> float:
        """Of norms by the root of the mean square, which files keep under the other norm's key."""
        return self.layer_norm_eps


@dataclass(frozen=True)
class Attention:
    """Of a block that attends."""

    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_output: Weight


@dataclass(frozen=True)
class Plain:
    """Of a feed-forward block."""

    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: mamba2.Mixer | Attention | Plain


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Any) -> list[Spec]:
    """K/V for the blocks that attend, memory per sequence for those of Mamba 2."""
    mixing = recurrent(*mamba2.memory(hp))
    kinds = zip(hp.n_kv_heads, hp.ffn_size, strict=True)
    return [Spec(n, hp.head_dim, hp.head_dim) if n or size else mixing for n, size in kinds]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return decoder(net, hp, batch, cache, feed_forward)


def decoder(net: Any, hp: Any, batch: Batch, cache: Sequence[KV], others: Callable[[Any, Tensor], Tensor]) -> Tensor:
    """Logits (O, vocab); `others` are blocks neither of Mamba 2 nor of attention."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        y, mixer = nn.rms_norm(x, block.attn_norm, hp.norm_eps), block.mixer
        if isinstance(mixer, mamba2.Mixer):
            x = x + mamba2.mix(mixer, hp, y, batch, kv)
        else:
            x = x + (attention(mixer, hp, y, batch, kv) if isinstance(mixer, Attention) else others(mixer, y))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Attention, hp: Any, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, kv.spec.heads)
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


def feed_forward(block: Plain, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.relu_squared(nn.linear(x, block.ffn_up)), block.ffn_down)


PARTS = {
    **{"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"},
    **{"up_proj": "ffn_up", "down_proj": "ffn_down"},
}
HF_NAMES = mamba2.HF_NAMES | {f"backbone.layers.{{}}.mixer.{part}": f"blk.{{}}.{name}" for part, name in PARTS.items()}
HF_TENSORS = mamba2.HF_TENSORS
HF_PREFIXES = {"model.": "backbone."}


def from_hf(name: str, hp: Any) -> Transform | tuple[Transform, ...] | None:
    """As Mamba 2's; rows of q and k come in the order of rotary pairs, as in ggml, though nothing is turned."""
    heads = {"attn_q.weight": hp.n_heads, "attn_k.weight": max(hp.n_kv_heads)}.get(name.split(".", 2)[-1])
    return base.permute_rope(heads) if heads else mamba2.from_hf(name, hp)


def kinds(config: Config) -> list[str]:
    """Of each block: mamba, attention, mlp or moe; said by letters or words. ConversionError names what is neither."""
    said: Any = config.get("layers_block_type") or config.get("layer_types") or config.get("hybrid_override_pattern")
    named = [KINDS.get(each) or NAMES.get(each) for each in said or "?"]
    if None in named:
        works = ", ".join(repr(each) for each in (*KINDS, *NAMES))
        raise ConversionError(f"nemotron_h: config.json names blocks {str(said)[:80]!r}; what works: {works}")
    return [each for each in named if each]


def claims(config: Config) -> bool:
    """Whether no block has experts, which is another architecture in ggml."""
    return "moe" not in kinds(config)


def settings(config: Config) -> dict[str, Any]:
    """What config.json says of its blocks; heads of attention and of Mamba 2 have sizes of their own."""
    named, heads = kinds(config), int(config["mamba_num_heads"])
    sizes = {"mlp": config["intermediate_size"], "moe": config.get("moe_intermediate_size") or 0}
    return {
        **{**config, "num_hidden_layers": len(named), "max_position_embeddings": mamba2.LONG},
        **{"time_step_rank": heads, "ssm_inner": heads * int(config["mamba_head_dim"])},
        "intermediate_size": [int(sizes.get(kind, 0)) for kind in named],
        "num_key_value_heads": [config["num_key_value_heads"] if kind == "attention" else 0 for kind in named],
    }


def hparams_from_hf(config: Config) -> Hparams:
    """Kinds of blocks are letters or words."""
    return Hparams.from_hf("nemotron_h", settings(config))
