"""Qwen 3 Next: blocks of a gated delta rule, every fourth of gated attention; many experts, and one that always serves.

A head of the delta rule keeps a matrix: a token takes out a part (beta) of what its key finds there, and puts as much
of its value in. Attention is multiplied by the sigmoid of the other half of q's rows. Norms multiply by 1 + w, but the
delta rule's. Reference: https://arxiv.org/abs/2412.06464, transformers `modeling_qwen3_next.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

from puna import nn
from puna.arch import base, mixture, qwen2moe
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.cache import recurrent
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("Qwen3NextForCausalLM",)
KNOWN = ("Qwen/Qwen3-Next-80B-A3B-Instruct", "Qwen/Qwen3-Coder-Next")
HF_DEFAULTS = {
    **{"rms_norm_eps": 1e-6, "head_dim": 256, "num_key_value_heads": 2, "linear_conv_kernel_dim": 4},
    **{"linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16},
    **{"linear_num_value_heads": 32, "partial_rotary_factor": 0.25, "norm_topk_prob": True},
    **{"full_attention_interval": 4, "tie_word_embeddings": False},
}
KINDS = ("linear_attention", "full_attention")
HF_REQUIRES = {"hidden_act": (None, "silu"), "layer_types": (None, *KINDS), "attn_output_gate": (None, True)}
HF_IGNORED = (*qwen2moe.HF_IGNORED, "mtp")

UNIT_EPS = 1e-6
"""Added to the squared length of q and k before they get length 1, for which GGUF has no key."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Its own. Heads of the delta rule: `ssm_groups` of q and k, `ssm_rank` of v; `ssm_state` is the former's size.

    Blocks recur one by one as said, or where Ollama's files say no K/V heads, or all but every `attention_interval`-th.
    `v_heads_tiled`: heads i, i + groups ... of v share a q and k, else those next to each other.
    """

    GGUF_DEFAULTS: ClassVar[Config] = {"expert_weights_norm": True}

    ffn_size: int = 0
    n_kv_heads: int | tuple[int, ...]
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    n_experts: int | None = None
    n_experts_used: int | None = None
    expert_ffn_size: int | None = None
    shared_ffn_size: int | None = None
    expert_norm: bool | None = None
    gating = nn.SOFTMAX
    ssm_conv: int
    ssm_inner: int
    ssm_state: int
    ssm_rank: int
    ssm_groups: int
    recurrent_blocks: tuple[bool, ...] | None = None
    attention_interval: int | None = None
    v_heads_tiled: bool | None = None
    n_nextn_blocks: int | None = None

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """GGUF counts blocks that predict further tokens, which come last."""
        hp = super().from_gguf(arch, metadata)
        return replace(hp, n_blocks=hp.n_blocks - (hp.n_nextn_blocks or 0))

    @property
    def recurs(self) -> list[bool]:
        """Whether each block is one of the delta rule; ModelError where it is not said of each."""
        said, heads = self.recurrent_blocks, self.n_kv_heads
        if said is None:
            if not isinstance(heads, tuple):
                return [(i + 1) % (self.attention_interval or 4) != 0 for i in range(self.n_blocks)]
            said = tuple(count == 0 for count in heads)
        if len(said) < self.n_blocks:
            raise ModelError(f"the kinds of {len(said)} blocks are said, but there are {self.n_blocks}")
        return list(said[: self.n_blocks])


@dataclass(frozen=True)
class Attention:
    """Of a block that attends; `attn_q` has, for each head, q over its gate."""

    attn_q: Weight
    attn_k: Weight
    attn_v: Weight
    attn_q_norm: Weight
    attn_k_norm: Weight
    attn_output: Weight


@dataclass(frozen=True)
class Delta:
    """Of a block of the delta rule; `ssm_ba` makes beta and steps group by group, `ssm_in` of older files the rest."""

    ssm_ba: Weight
    attn_qkv: Weight | None
    attn_gate: Weight | None
    ssm_in: Weight | None
    ssm_conv1d: Weight
    ssm_dt: Annotated[Weight, "ssm_dt.bias"]
    ssm_a: Annotated[Weight, "ssm_a"]
    ssm_norm: Weight
    ssm_out: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block."""

    attn_norm: Weight
    mixer: Delta | Attention
    post_attention_norm: Weight
    ffn: mixture.Dense | mixture.Experts


@dataclass(frozen=True)
class Network(base.Decoder):
    """Weights of the whole model; without `output` the embedding serves."""

    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """K/V for the blocks that attend; for the others a convolution's rows, and each head's matrix."""
    width = hp.ssm_inner + 2 * hp.ssm_groups * hp.ssm_state
    mixing = recurrent((hp.ssm_conv - 1, width), (hp.ssm_rank, hp.ssm_state, hp.ssm_inner // hp.ssm_rank))
    heads = max(hp.n_kv_heads) if isinstance(hp.n_kv_heads, tuple) else hp.n_kv_heads
    return [mixing if recurs else Spec(heads, hp.head_dim, hp.head_dim) for recurs in hp.recurs]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return decoder(net, hp, batch, cache, mix)


def decoder(net: Any, hp: Hparams, batch: Batch, cache: Sequence[KV], mix: Callable[..., Tensor]) -> Tensor:
    """Logits (O, vocab), with this `mix` for blocks that do not attend, which siblings vary."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope)
    for block, kv in zip(net.blk, cache, strict=True):
        y, mixer = nn.rms_norm(x, block.attn_norm, hp.norm_eps), block.mixer
        if isinstance(mixer, Attention):
            x = x + attention(mixer, hp, y, frequencies, batch, kv)
        else:
            x = x + mix(mixer, hp, y, batch, kv)
        x = x + mixture.feed_forward(block.ffn, hp, nn.rms_norm(x, block.post_attention_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def attention(block: Attention, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, gate = nn.split(nn.heads(nn.linear(x, block.attn_q), hp.n_heads), 2, (hp.head_dim, hp.head_dim))
    k, v = (nn.heads(nn.linear(x, w), kv.spec.heads) for w in (block.attn_k, block.attn_v))
    q, k = (nn.rms_norm(y, w, hp.norm_eps) for y, w in ((q, block.attn_q_norm), (k, block.attn_k_norm)))
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    y = nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5)
    return nn.linear(y * nn.sigmoid(nn.flat(gate)), block.attn_output)


def mix(block: Delta, hp: Hparams, x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    each, sizes = hp.ssm_rank // hp.ssm_groups, [hp.ssm_state] * 2 + [hp.ssm_inner // hp.ssm_groups] * 2
    beta, step = (nn.flat(y) for y in nn.split(nn.heads(nn.linear(x, block.ssm_ba), hp.ssm_groups), 2, (each, each)))
    if block.attn_qkv and block.attn_gate:
        qkv, gate = (nn.linear(x, w) for w in (block.attn_qkv, block.attn_gate))
    elif block.ssm_in:
        q, k, v, gate = map(nn.flat, nn.split(nn.heads(nn.linear(x, block.ssm_in), hp.ssm_groups), 2, sizes))
        qkv = nn.concat(1, q, k, v)
    else:
        raise ModelError("a block of the delta rule needs 'attn_qkv' and 'attn_gate', or 'ssm_in'")
    return nn.linear(delta(block, hp, qkv, gate, beta, step, batch, kv), block.ssm_out)


def delta(block: Any, hp: Any, qkv: Tensor, gate: Tensor, beta: Tensor, step: Tensor, batch: Batch, kv: KV) -> Tensor:
    """What heads make of q, k and v side by side, as projected like all else: (T, ssm_inner)."""
    rows, memories = kv.recurrent
    count, width = hp.ssm_rank, hp.ssm_groups * hp.ssm_state
    qkv = nn.silu(nn.causal_conv1d(qkv, block.ssm_conv1d, batch, rows))
    q, k, v = nn.split(qkv, 1, (width, width, hp.ssm_inner))
    q, k = (spread(y, hp) for y in (q, k))
    part = nn.sigmoid(nn.heads(beta, count))
    kept = nn.exp(nn.heads(nn.softplus(step + block.ssm_dt.weight) * block.ssm_a.weight, count))
    replaced = (k, -(k * (kept * part)))
    y = nn.recurrence(q * hp.ssm_state**-0.5, kept, k, nn.heads(v, count) * part, batch, memories, added=replaced)
    return nn.silu_mul(gate, nn.flat(nn.rms_norm(y, block.ssm_norm, hp.norm_eps)))


def spread(x: Tensor, hp: Hparams) -> Tensor:
    """(T, groups * size), each group with length 1, for as many heads as v has: (T, ssm_rank, size)."""
    units = nn.rms_norm(nn.heads(x, hp.ssm_groups), None, UNIT_EPS / hp.ssm_state) * hp.ssm_state**-0.5
    if not hp.v_heads_tiled:
        return nn.shared_heads(nn.flat(units), hp.ssm_groups, hp.ssm_rank)
    return nn.repeated(nn.flat(units), hp.ssm_rank // hp.ssm_groups).reshape(x.shape[0], hp.ssm_rank, hp.ssm_state)


_DELTA = "model.layers.{}.linear_attn."
HF_NAMES = {
    **qwen2moe.HF_NAMES,
    "model.layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm",
    **{f"model.layers.{{}}.self_attn.{part}_norm": f"blk.{{}}.attn_{part}_norm" for part in "qk"},
    f"{_DELTA}in_proj_qkvz": ("blk.{}.attn_qkv", "blk.{}.attn_gate"),
    f"{_DELTA}in_proj_ba": "blk.{}.ssm_ba",
    **{f"{_DELTA}{part}": f"blk.{{}}.ssm_{part}" for part in ("conv1d", "norm")},
    f"{_DELTA}out_proj": "blk.{}.ssm_out",
}
HF_TENSORS = {f"{_DELTA}A_log": "blk.{}.ssm_a", f"{_DELTA}dt_bias": "blk.{}.ssm_dt.bias"}


def from_hf(name: str, hp: Hparams) -> Transform | tuple[Transform, ...] | None:
    """Norms are stored as 1 + w; q, k, v and the gate come group by group."""
    part, key, whole = name.split(".", 2)[-1], hp.ssm_groups * hp.ssm_state, hp.ssm_inner
    apart = base.regroup(hp.ssm_groups, *[hp.ssm_state] * 2, *[whole // hp.ssm_groups] * 2)
    changes: dict[str, Transform | tuple[Transform, ...]] = {
        "attn_qkv.weight": (apart, base.rows(0, 2 * key + whole)),
        "attn_gate.weight": (apart, base.rows(2 * key + whole, 2 * key + 2 * whole)),
        "ssm_conv1d.weight": base.squeeze(),
        "ssm_a": base.negative_exp(),
    }
    return base.plus_one() if name.endswith("norm.weight") and part != "ssm_norm.weight" else changes.get(part)


def settings(config: Config) -> dict[str, Any]:
    """What config.json says of its blocks, in the words of `Hparams`."""
    every, blocks, said = int(config["full_attention_interval"]), config["num_hidden_layers"], config.get("layer_types")
    recurs = [kind == KINDS[0] for kind in said] if said else [(i + 1) % every != 0 for i in range(blocks)]
    every = recurs.index(False) + 1 if False in recurs else blocks + 1
    regular = recurs == [(i + 1) % every != 0 for i in range(blocks)]
    return {
        **{**config, "recurrent_blocks": recurs, "attention_interval": every if regular else None},
        **{"conv_kernel": config["linear_conv_kernel_dim"], "state_size": config["linear_key_head_dim"]},
        **{"n_groups": config["linear_num_key_heads"], "time_step_rank": config["linear_num_value_heads"]},
        "ssm_inner": config["linear_num_value_heads"] * config["linear_value_head_dim"],
    }


def hparams_from_hf(config: Config) -> Hparams:
    """Sizes of the delta rule have names of their own."""
    return Hparams.from_hf("qwen3next", settings(config))
