"""DeepSeek V2 and V3: latent attention, one compressed key and value for all heads, and experts in groups.

The latent (kv_lora_rank) and one rotary part are cached; heads' own matrices are applied to q and to the result instead
(attn_k_b, attn_v_b). Older files have those in one (attn_kv_b); then keys and values of all heads are made and cached.
V3 routes by sigmoid, and by a bias that chooses but does not weigh. Blocks that predict further tokens (nextn) are left
out. Ollama calls GLM-4.7-Flash `glm4moelite`. Reference: https://arxiv.org/abs/2405.04434, transformers
`modeling_deepseek_v2.py`, `modeling_deepseek_v3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, Self

from puna import nn
from puna.arch import base, llama, mixture
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

GGUF_NAMES = ("glm4moelite",)
HF_CLASSES = ("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "Glm4MoeLiteForCausalLM")
KNOWN = ("deepseek-ai/DeepSeek-V2-Lite", "deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-R1")
HF_DEFAULTS = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "first_k_dense_replace": 0},
    **{"routed_scaling_factor": 1.0, "norm_topk_prob": False, "n_group": 1, "topk_group": 1, "n_shared_experts": 0},
    **{"moe_layer_freq": 1, "tie_word_embeddings": False},
}
HF_REQUIRES = {
    **{"hidden_act": ("silu",), "moe_layer_freq": (1,), "rope_interleave": (None, True)},
    "attention_bias": (None, False),
    "topk_method": (None, "greedy", "group_limited_greedy", "noaux_tc"),
    "scoring_func": (None, "softmax", "sigmoid"),
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """DeepSeek's own. `key_length` and `value_length` are those of what is cached, the others (mla) those of a head.

    Where the others are not said, what is cached are the heads, whose matrices are in one.
    """

    n_kv_heads: int = 1
    key_length: int
    value_length: int
    mla_key_length: int | None = None
    mla_value_length: int | None = None
    q_lora_rank: int | None = None
    kv_lora_rank: int
    norm_eps: float
    rope: nn.Rope
    yarn_log_multiplier: float = 0.0
    n_dense_blocks: int = 0
    n_nextn_blocks: int | None = None
    n_experts: int | None = None
    n_experts_used: int = 0
    n_shared_experts: int = 0
    expert_ffn_size: int = 0
    expert_scale: float = 1.0
    expert_norm: bool = False
    n_expert_groups: int = 1
    n_expert_groups_used: int = 1
    gating: int = nn.SOFTMAX

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """GGUF counts blocks that predict further tokens, which come last; Ollama has keys of sizes the other way."""
        hp = super().from_gguf(arch, metadata)
        hp = replace(hp, n_blocks=hp.n_blocks - (hp.n_nextn_blocks or 0))
        if metadata.get("general.architecture") not in GGUF_NAMES or hp.mla_key_length is None:
            return hp
        (k, v), (key, value) = (hp.key_length, hp.value_length), hp.head_sizes
        return replace(hp, key_length=key, value_length=value, mla_key_length=k, mla_value_length=v, n_kv_heads=1)

    @property
    def head_sizes(self) -> tuple[int, int]:
        """Of a head's k, and of its v."""
        return self.mla_key_length or self.key_length, self.mla_value_length or self.value_length

    @property
    def scale(self) -> float:
        """What scores are multiplied by: yarn makes them larger, not the rotary part."""
        stretched = self.rope.scaling == "yarn" and self.rope.factor > 1
        more = 1.0 + self.yarn_log_multiplier * log(self.rope.factor) if stretched else 1.0
        return float(self.head_sizes[0] ** -0.5) * more * more

    @property
    def nope_dim(self) -> int:
        """The part of a head that is not turned."""
        return self.head_sizes[0] - self.rope.dim


@dataclass(frozen=True)
class Query:
    """From hidden straight to heads."""

    attn_q: Weight


@dataclass(frozen=True)
class LowRankQuery:
    """From hidden to heads by way of a small vector."""

    attn_q_a: Weight
    attn_q_a_norm: Weight
    attn_q_b: Weight


@dataclass(frozen=True)
class Absorbed:
    """On q and on the result: `attn_k_b` (H, kv_lora_rank, nope_dim), `attn_v_b` (H, value_dim, kv_lora_rank)."""

    attn_k_b: Weight
    attn_v_b: Weight


@dataclass(frozen=True)
class Whole:
    """From the latent to the heads' k and v: (H * (nope_dim + value_dim), kv_lora_rank)."""

    attn_kv_b: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    query: LowRankQuery | Query
    attn_kv_a_mqa: Weight
    attn_kv_a_norm: Weight
    up: Absorbed | Whole
    attn_output: Weight
    ffn_norm: Weight
    ffn: mixture.Dense | mixture.Experts


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """One head for all, the latent and the rotary part; or all heads, where files have their matrices in one."""
    if hp.mla_key_length is None:
        return [Spec(hp.n_heads, *hp.head_sizes)] * hp.n_blocks
    return [Spec(1, hp.kv_lora_rank + hp.rope.dim, hp.kv_lora_rank)] * hp.n_blocks


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for block, kv in zip(net.blk, cache, strict=True):
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), batch, kv)
        x = x + mixture.feed_forward(block.ffn, hp, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Block, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden); ModelError where the sizes said are not those of the heads' matrices."""
    parts, frequencies = (hp.nope_dim, hp.rope.dim), nn.frequencies(hp.rope)
    plain, turned = nn.split(nn.heads(queries(block.query, hp, x), hp.n_heads), 2, parts)
    latent, key = nn.split(nn.linear(x, block.attn_kv_a_mqa), 1, (hp.kv_lora_rank, hp.rope.dim))
    latent = nn.rms_norm(latent, block.attn_kv_a_norm, hp.norm_eps)
    turned, key = (nn.rope(y, batch.positions, frequencies, style="pairs") for y in (turned, nn.heads(key, 1)))
    if isinstance(block.up, Whole) != (hp.mla_key_length is None):
        raise ModelError("deepseek2: 'attention.key_length_mla' goes with 'attn_k_b', and its absence with 'attn_kv_b'")
    if isinstance(block.up, Whole):
        return nn.linear(of_heads(block.up, hp, nn.concat(2, plain, turned), latent, key, batch, kv), block.attn_output)
    latent = nn.heads(latent, 1)
    q = nn.concat(2, nn.each_head(plain, block.up.attn_k_b), turned)
    y = nn.attention(q, nn.concat(2, latent, key), latent, batch, kv, scale=hp.scale)
    y = nn.each_head(nn.heads(y, hp.n_heads), block.up.attn_v_b)
    return nn.linear(nn.flat(y), block.attn_output)


def of_heads(up: Whole, hp: Hparams, q: Tensor, latent: Tensor, key: Tensor, batch: Batch, kv: KV) -> Tensor:
    """From q (T, H, D), the latent (T, kv_lora_rank) and the rotary part (T, 1, rope) to (T, H * value_dim)."""
    made = nn.heads(nn.linear(latent, up.attn_kv_b), hp.n_heads)
    k, v = nn.split(made, 2, (hp.nope_dim, hp.head_sizes[1]))
    k = nn.concat(2, k, nn.shared_heads(nn.flat(key), 1, hp.n_heads))
    return nn.attention(q, k, v, batch, kv, scale=hp.scale)


def queries(query: LowRankQuery | Query, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, H * D)."""
    if isinstance(query, Query):
        return nn.linear(x, query.attn_q)
    return nn.linear(nn.rms_norm(nn.linear(x, query.attn_q_a), query.attn_q_a_norm, hp.norm_eps), query.attn_q_b)


HF_NAMES = llama.HF_NAMES | {
    "model.layers.{}.self_attn.q_a_proj": "blk.{}.attn_q_a",
    "model.layers.{}.self_attn.q_a_layernorm": "blk.{}.attn_q_a_norm",
    "model.layers.{}.self_attn.q_b_proj": "blk.{}.attn_q_b",
    "model.layers.{}.self_attn.kv_a_proj_with_mqa": "blk.{}.attn_kv_a_mqa",
    "model.layers.{}.self_attn.kv_a_layernorm": "blk.{}.attn_kv_a_norm",
    "model.layers.{}.self_attn.kv_b_proj": ("blk.{}.attn_k_b", "blk.{}.attn_v_b"),
    **mixture.HF_NAMES,
    **mixture.HF_SHARED,
}
HF_TENSORS = mixture.HF_TENSORS
HF_IGNORED = llama.HF_IGNORED


def from_hf(name: str, hp: Hparams) -> tuple[Transform, ...] | None:
    """kv_b's rows are, head by head, those that make k and those that make v."""
    k, v = hp.nope_dim, hp.head_sizes[1]
    parts = {
        "attn_k_b": (base.split_heads(hp.n_heads), base.rows(0, k), base.transpose()),
        "attn_v_b": (base.split_heads(hp.n_heads), base.rows(k, k + v)),
    }
    return parts.get(name.split(".")[-2])


def hparams_from_hf(config: Config) -> Hparams:
    """Sizes of what is cached follow from those of the heads."""
    rank, turned = int(config["kv_lora_rank"]), int(config["qk_rope_head_dim"])
    v3 = "DeepseekV2ForCausalLM" not in config["architectures"]
    known: dict[str, Any] = {
        **config,
        **{"num_key_value_heads": 1, "key_length": rank + turned, "value_length": rank},
        **{"mla_key_length": int(config["qk_nope_head_dim"]) + turned, "mla_value_length": config["v_head_dim"]},
        "gating": nn.SIGMOID if v3 else nn.SOFTMAX,
    }
    if not v3 and config.get("topk_method") in (None, "greedy"):
        known |= {"n_group": 1, "topk_group": 1}
    if types := config.get("mlp_layer_types"):
        known["first_k_dense_replace"] = dense = types.count("dense")
        if types != ["dense"] * dense + ["sparse"] * (len(types) - dense):
            raise ModelError("deepseek2: config.json: 'mlp_layer_types' has a dense block after a sparse one")
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if scaling.get("mscale") != scaling.get("mscale_all_dim"):
        raise ModelError("deepseek2: config.json: 'mscale' differs from 'mscale_all_dim', which is not supported")
    if scaling.get("mscale_all_dim"):
        known["yarn_log_multiplier"] = 0.1 * float(scaling["mscale_all_dim"])
    hp = Hparams.from_hf("deepseek2", known)
    return replace(hp, rope=replace(hp.rope, dim=turned, attention_factor=0.0))
