"""Gemma 4, text: blocks with a window and blocks that see everything differ in the size and number of their heads.

The latter turn a part of each head only (`rope_freqs`), and may use keys as values. Blocks may have embeddings of their
own, experts beside the feed-forward network, and read what an earlier block remembers. Scores are not scaled.
Reference: https://ai.google.dev/gemma/docs/core, transformers `modeling_gemma4.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from puna import nn
from puna.arch import base, gemma3n
from puna.arch.base import KV, Batch, Config, Spec, Weight
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration")
HF_PREFIXES, HF_IGNORED, GGUF_IGNORED = gemma3n.HF_PREFIXES, gemma3n.HF_IGNORED, gemma3n.GGUF_IGNORED
HF_DEFAULTS = {
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "rms_norm_eps": 1e-6},
    **{"max_position_embeddings": 131072, "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 512},
    **{"global_head_dim": 512, "hidden_size_per_layer_input": 256, "num_kv_shared_layers": 0, "vocab_size": 262144},
    **{"tie_word_embeddings": True, "attention_k_eq_v": False, "use_double_wide_mlp": False, "enable_moe_block": False},
}
HF_REQUIRES = gemma3n.HF_REQUIRES | {"use_bidirectional_attention": (None, "vision"), "altup_correct_scale": (None,)}
EVERY, NEVER = 6, 1e30  # each sixth block sees everything, where nothing is said; a divisor that stops turning
TURNS = (("proportional", "default"), ("default", "default"))  # rope types without a window, and with one
ROPE = {
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Its own; `_local`: of blocks with a window. Sizes and numbers of heads may differ from block to block."""

    ffn_size: int | tuple[int, ...]  # type: ignore[assignment]  # see above
    n_kv_heads: int | tuple[int, ...]
    key_length: int
    value_length: int
    key_length_local: int
    value_length_local: int
    norm_eps: float
    rope: nn.Rope
    rope_theta_local: float = 10000.0
    rope_dim_local: int
    sliding_window: int
    sliding_window_pattern: tuple[bool, ...]
    final_softcap: float | None = None
    per_layer_size: int = 0
    n_shared_blocks: int = 0
    n_experts: int | None = None
    n_experts_used: int | None = None
    expert_ffn_size: int | None = None

    @property
    def memories(self) -> tuple[int, ...]:
        """Of each block whose memory it reads: its own, or that of the last block of its kind that has one."""
        if (said := len(self.sliding_window_pattern)) != self.n_blocks:
            raise ModelError(f"gemma4: the window pattern has {said} blocks, the model {self.n_blocks}")
        return nn.memories(self.sliding_window_pattern, self.n_blocks - self.n_shared_blocks)

    def memory(self, block: int) -> Spec:
        """What a block remembers."""
        slides = self.sliding_window_pattern[block]
        size = self.key_length_local if slides else self.key_length
        heads = self.n_kv_heads if isinstance(self.n_kv_heads, int) else self.n_kv_heads[block]
        return Spec(heads, size, size, self.sliding_window if slides else 0)


@dataclass(frozen=True)
class Experts:
    """Beside the feed-forward network, with their router and norms around both."""

    ffn_gate_inp: Weight
    ffn_gate_inp_scale: Annotated[Weight, "ffn_gate_inp.scale"]
    ffn_gate_up_exps: Weight
    ffn_down_exps: Weight
    ffn_down_exps_scale: Annotated[Weight, "ffn_down_exps.scale"]
    pre_ffw_norm_2: Weight
    post_ffw_norm_1: Weight
    post_ffw_norm_2: Weight


@dataclass(frozen=True)
class Block:
    """Weights of one block; one that reads another's memory may do without keys and values."""

    attn_norm: Weight
    attn_q: Weight
    attn_q_norm: Weight
    attn_k: Weight | None
    attn_k_norm: Weight | None
    attn_v: Weight | None
    attn_output: Weight
    post_attention_norm: Weight
    ffn_norm: Weight
    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight
    post_ffw_norm: Weight
    inp_gate: Weight | None
    proj: Weight | None
    post_norm: Weight | None
    layer_output_scale: Weight | None
    experts: Experts | None


@dataclass(frozen=True)
class Network:
    """Weights of the whole model; without `output` the embedding serves."""

    token_embd: Weight
    output_norm: Weight
    output: Weight | None
    rope_freqs: Weight | None
    per_layer_token_embd: Weight | None
    per_layer_model_proj: Weight | None
    per_layer_proj_norm: Weight | None
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """Of the blocks with a memory of their own."""
    return [hp.memory(i) for i in sorted(set(hp.memories[: hp.n_blocks - hp.n_shared_blocks]))]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd) * hp.hidden_size**0.5
    own = nn.per_layer_inputs(net, batch.tokens, x, hp.n_blocks, hp.norm_eps) if hp.per_layer_size else None
    far = nn.frequencies(hp.rope, net.rope_freqs)
    near = nn.frequencies(nn.Rope(hp.rope_theta_local, hp.rope_dim_local))
    kept: dict[int, KV] = dict(enumerate(cache))
    for i, block in enumerate(net.blk):
        frequencies = near if hp.sliding_window_pattern[i] else far
        y = nn.rms_norm(x, block.attn_norm, hp.norm_eps)
        y = attention(block, hp, y, frequencies, batch, kept, (i, hp.memories[i]))
        x = x + nn.rms_norm(y, block.post_attention_norm, hp.norm_eps)
        y = feed_forward(block, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
        if block.experts:
            y = nn.rms_norm(y, block.experts.post_ffw_norm_1, hp.norm_eps) + _mixture(block.experts, hp, x)
        x = x + nn.rms_norm(y, block.post_ffw_norm, hp.norm_eps)
        if own is not None:
            x = x + nn.rms_norm(nn.per_layer(block, x, own, i), block.post_norm, hp.norm_eps)
        if block.layer_output_scale:
            x = x * block.layer_output_scale.weight
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    logits = nn.linear(x, net.output or net.token_embd)
    return nn.softcap(logits, hp.final_softcap) if hp.final_softcap else logits


def attention(
    block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kept: dict[int, KV], place: tuple[int, int]
) -> Tensor:
    """(T, hidden) to (T, hidden); `place`: this block, and the one whose memory in `kept` it reads."""
    this, read = place
    q = nn.rms_norm(nn.heads(nn.linear(x, block.attn_q), hp.n_heads), block.attn_q_norm, hp.norm_eps)
    if this == read:
        if block.attn_k is None:
            raise ModelError(f"gemma4: block {this} has no keys, which it would remember")
        k = nn.heads(nn.linear(x, block.attn_k), kept[this].spec.heads)
        v = nn.heads(nn.linear(x, block.attn_v), kept[this].spec.heads) if block.attn_v else k
        k = nn.rope(nn.rms_norm(k, block.attn_k_norm, hp.norm_eps), batch.positions, frequencies, style="halves")
        kept[this] = nn.remember(k, nn.rms_norm(v, None, hp.norm_eps), batch, kept[this])
    q = nn.rope(q, batch.positions, frequencies, style="halves")
    return nn.linear(nn.attend(q, batch, kept[read], scale=1.0), block.attn_output)


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    return nn.linear(nn.gelu_mul(nn.linear(x, block.ffn_gate), nn.linear(x, block.ffn_up)), block.ffn_down)


def _mixture(ffn: Experts, hp: Hparams, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden), by the chosen experts, whose results have factors of their own."""
    if not hp.n_experts or not hp.n_experts_used or not hp.expert_ffn_size:
        raise ModelError("gemma4: there are experts, but how many, how many are used, or their size is not said")
    routed = nn.rms_norm(x, None, hp.norm_eps) * hp.hidden_size**-0.5 * ffn.ffn_gate_inp_scale.weight
    ids, shares = nn.route(nn.linear(routed, ffn.ffn_gate_inp), hp.n_experts_used, normed=True)
    shares = shares * nn.pick(ffn.ffn_down_exps_scale.weight.reshape(1, hp.n_experts), ids)
    both = nn.experts(nn.rms_norm(x, ffn.pre_ffw_norm_2, hp.norm_eps), ffn.ffn_gate_up_exps, ids)
    y = nn.experts(nn.gelu_mul(*nn.split(both, 2, [hp.expert_ffn_size] * 2)), ffn.ffn_down_exps, ids)
    y = y * shares.reshape(*shares.shape, 1)
    return nn.rms_norm(y.sum(1).reshape(*x.shape), ffn.post_ffw_norm_2, hp.norm_eps)


HF_NAMES = gemma3n.HF_NAMES | {
    "model.layers.{}.router.proj": "blk.{}.ffn_gate_inp",
    "model.layers.{}.pre_feedforward_layernorm_2": "blk.{}.pre_ffw_norm_2",
    "model.layers.{}.post_feedforward_layernorm_1": "blk.{}.post_ffw_norm_1",
    "model.layers.{}.post_feedforward_layernorm_2": "blk.{}.post_ffw_norm_2",
}
HF_TENSORS = {
    "model.layers.{}.layer_scalar": "blk.{}.layer_output_scale.weight",
    "model.layers.{}.router.scale": "blk.{}.ffn_gate_inp.scale",
    "model.layers.{}.router.per_expert_scale": "blk.{}.ffn_down_exps.scale",
    "model.layers.{}.experts.gate_up_proj": "blk.{}.ffn_gate_up_exps.weight",
    "model.layers.{}.experts.down_proj": "blk.{}.ffn_down_exps.weight",
}
from_hf = gemma3n.from_hf


def hparams_from_hf(config: Config) -> Hparams:
    """Kinds of blocks are listed, or told by block; ggml's key lengths are those of blocks without a window."""
    blocks, shared = config["num_hidden_layers"], config["num_kv_shared_layers"]
    types = config.get("layer_types") or ["sliding_attention" if (i + 1) % EVERY else "" for i in range(blocks)]
    slides = [*(kind == "sliding_attention" for kind in types[:-1]), False]
    whole = _of_whole(config, slides)
    known: dict[str, Any] = {**config, "sliding_window_pattern": slides}
    known |= dict.fromkeys(("key_length", "value_length"), whole.get("head_dim", config["global_head_dim"]))
    known |= dict.fromkeys(("key_length_local", "value_length_local", "rope_dim_local"), config["head_dim"])
    if heads := whole.get("num_key_value_heads"):
        known["num_key_value_heads"] = [config["num_key_value_heads"] if slide else heads for slide in slides]
    if config["use_double_wide_mlp"]:
        known["intermediate_size"] = [config["intermediate_size"] * (1 + (i >= blocks - shared)) for i in range(blocks)]
    if not config["enable_moe_block"]:
        known |= dict.fromkeys(("num_experts", "top_k_experts", "moe_intermediate_size"))
    known["rope_local_base_freq"], known["rope_parameters"] = _turning(config)[2], {"rope_theta": _turning(config)[0]}
    return Hparams.from_hf("gemma4", known)


def _of_whole(config: Config, slides: list[bool]) -> Mapping[str, Any]:
    """What blocks that see everything have of their own."""
    if isinstance(each := config.get("per_layer_config"), Mapping):
        return each.get(str(slides.index(False))) or {}
    heads = config.get("num_global_key_value_heads") if config["attention_k_eq_v"] else None
    return {"head_dim": config["global_head_dim"], "num_key_value_heads": heads}


def _turning(config: Config) -> tuple[float, float, float]:
    """The rotary base and the part of a head that is turned without a window, and the base with one."""
    said = {**ROPE, **(config.get("rope_parameters") or config.get("rope_scaling") or {})}
    whole, near = (said[kind] for kind in ROPE)
    if said.keys() != ROPE.keys() or (whole.get("rope_type"), near.get("rope_type", "default")) not in TURNS:
        raise ModelError(f"gemma4: rope settings {said} have a type or a key that is unknown")
    if odd := (whole.keys() | near.keys()) - {"rope_type", "rope_theta", "partial_rotary_factor"}:
        raise ModelError(f"gemma4: rope key '{min(odd)}' is not understood")
    part = whole.get("partial_rotary_factor", 1.0) if whole["rope_type"] == "proportional" else 1.0
    return float(whole["rope_theta"]), float(part), float(near["rope_theta"])


def extra_tensors(config: Config, hp: Hparams) -> dict[str, list[float]]:
    """Divisors of frequencies: only the first of a head's pairs are turned."""
    turned = int(hp.key_length * _turning(config)[1] // 2)
    return {"rope_freqs.weight": [1.0] * turned + [NEVER] * (hp.key_length // 2 - turned)}
