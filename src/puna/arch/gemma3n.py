"""Gemma 3n, text: several streams of hidden states, of which each block computes one and corrects the others (AltUp).

Each block has a low-rank side path (Laurel) and embeddings of its own; gates of some are cut to their largest elements,
and the last blocks read what an earlier one remembers. Scores are not scaled. Reference:
https://ai.google.dev/gemma/docs/gemma-3n, transformers `modeling_gemma3n.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, inf
from typing import Any, ClassVar

from puna import nn
from puna.arch import base, gemma3, rope
from puna.arch.base import KV, Batch, Config, Spec, Transform, Weight
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("Gemma3nForCausalLM", "Gemma3nForConditionalGeneration")
HF_PREFIXES = gemma3.HF_PREFIXES
HF_IGNORED = ("vision_tower", "audio_tower", "embed_vision", "embed_audio")
HF_DEFAULTS = {
    **{"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "rms_norm_eps": 1e-6},
    **{"max_position_embeddings": 32768, "hidden_activation": "gelu_pytorch_tanh", "final_logit_softcapping": 30.0},
    **{"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window": 512, "tie_word_embeddings": True},
    **{"vocab_size": 262400, "hidden_size_per_layer_input": 256, "altup_active_idx": 0, "altup_num_inputs": 4},
    **{"num_kv_shared_layers": 15, "altup_correct_scale": True, "laurel_rank": 64},
}
HF_REQUIRES = {
    **{"hidden_activation": ("gelu_pytorch_tanh",), "altup_correct_scale": (True,), "attention_bias": (None, False)},
    "use_bidirectional_attention": (None, False),
    "layer_types": (None, "full_attention", "sliding_attention"),
}
GGUF_IGNORED = ("v.", "mm.", "a.")
EVERY, SPARSE_BLOCKS, SPARSITY = 5, 10, 0.95
"""Where nothing is said: each fifth block sees everything, the first ten of more are sparse."""


@dataclass(frozen=True, kw_only=True)
class Hparams(base.Hparams):
    """Its own. `sparsity`: of each block how many standard deviations above their mean gates begin to count."""

    GGUF_DEFAULTS: ClassVar[Config] = {"rope.freq_base": 1000000.0, "final_logit_softcapping": 30.0}

    ffn_size: int | tuple[int, ...]  # type: ignore[assignment]  # may differ from block to block
    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: nn.Rope
    rope_theta_local: float = 10000.0
    sliding_window: int = 0
    sliding_window_pattern: tuple[bool, ...] | None = None
    final_softcap: float | None = None
    per_layer_size: int
    n_shared_blocks: int = 0
    n_streams: int
    active_stream: int = 0
    sparsity: tuple[float, ...]

    def slides(self, block: int) -> bool:
        """Whether a block sees a window only."""
        pattern = self.sliding_window_pattern
        if pattern and len(pattern) != self.n_blocks:
            raise ModelError(f"gemma3n: the window pattern has {len(pattern)} blocks, the model {self.n_blocks}")
        return self.sliding_window > 0 and (pattern[block] if pattern else (block + 1) % EVERY != 0)

    @property
    def memories(self) -> tuple[int, ...]:
        """Of each block whose memory it reads: its own, or that of the last block of its kind that has one."""
        return nn.memories([self.slides(i) for i in range(self.n_blocks)], self.n_blocks - self.n_shared_blocks)


@dataclass(frozen=True)
class Block(gemma3.Block):
    """Weights of one block; one that reads another's memory may do without keys and values."""

    attn_k: Weight | None  # type: ignore[assignment]  # not of every block
    attn_k_norm: Weight | None  # type: ignore[assignment]
    attn_v: Weight | None  # type: ignore[assignment]
    altup_correct_coef: Weight
    altup_correct_scale: Weight
    altup_predict_coef: Weight
    altup_router: Weight
    altup_router_norm: Weight
    laurel_l: Weight
    laurel_r: Weight
    laurel_post_norm: Weight
    inp_gate: Weight
    proj: Weight
    post_norm: Weight


@dataclass(frozen=True)
class Network(gemma3.Network):
    """Weights of the whole model; without `output` the embedding serves."""

    altup_proj: Weight
    altup_unembd_proj: Weight
    per_layer_token_embd: Weight
    per_layer_model_proj: Weight
    per_layer_proj_norm: Weight
    blk: Sequence[Block]


def caches(hp: Hparams) -> list[Spec]:
    """Of the blocks with a memory of their own."""
    windows = (hp.sliding_window if hp.slides(i) else 0 for i in range(hp.n_blocks - hp.n_shared_blocks))
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, window) for window in windows]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd) * hp.hidden_size**0.5
    own = nn.per_layer_inputs(net, batch.tokens, x, hp.n_blocks, hp.norm_eps)
    others = nn.each_head(nn.repeated(x, hp.n_streams - 1), net.altup_proj)
    streams = nn.concat(1, x.reshape(*x.shape[:1], 1, hp.hidden_size), _as_large(others, x))
    far, near = nn.frequencies(hp.rope), nn.frequencies(nn.Rope(hp.rope_theta_local, hp.rope.dim))
    kept: dict[int, KV] = dict(enumerate(cache))
    for i, block in enumerate(net.blk):
        streams = _predicted(block, hp, streams)
        active = _stream(streams, hp.active_stream)
        y = nn.rms_norm(active, block.attn_norm, hp.norm_eps)
        low = nn.linear(nn.linear(y, block.laurel_l), block.laurel_r)
        side = y + nn.rms_norm(low, block.laurel_post_norm, hp.norm_eps)
        y = attention(block, hp, y, near if hp.slides(i) else far, batch, kept, (i, hp.memories[i]))
        y = (active + nn.rms_norm(y, block.post_attention_norm, hp.norm_eps) + side) * 0.5**0.5
        z = feed_forward(block, hp.sparsity[i], nn.rms_norm(y, block.ffn_norm, hp.norm_eps))
        y = y + nn.rms_norm(z, block.post_ffw_norm, hp.norm_eps)
        streams = _corrected(block, hp, streams, y)
        first = nn.per_layer(block, _stream(streams, hp.active_stream) * block.altup_correct_scale.weight, own, i)
        first = nn.rms_norm(first, block.post_norm, hp.norm_eps)
        first = first.reshape(*first.shape[:1], 1, hp.hidden_size)
        streams = nn.concat(1, streams.slice(1, 0, 1), streams.slice(1, 1, hp.n_streams) + first)
    x = _merged(net, hp, nn.rows(streams, batch.outputs))
    logits = nn.linear(nn.rms_norm(x, net.output_norm, hp.norm_eps), net.output or net.token_embd)
    return nn.softcap(logits, hp.final_softcap) if hp.final_softcap else logits


def attention(
    block: Block, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kept: dict[int, KV], place: tuple[int, int]
) -> Tensor:
    """(T, hidden) to (T, hidden); `place`: this block, and the one whose memory in `kept` it reads."""
    this, read = place
    q = nn.rms_norm(nn.heads(nn.linear(x, block.attn_q), hp.n_heads), block.attn_q_norm, hp.norm_eps)
    if this == read:
        if block.attn_k is None or block.attn_v is None:
            raise ModelError(f"gemma3n: block {this} has no keys and values, which it would remember")
        k = nn.rms_norm(nn.heads(nn.linear(x, block.attn_k), hp.n_kv_heads), block.attn_k_norm, hp.norm_eps)
        k = nn.rope(k, batch.positions, frequencies, style="halves")
        v = nn.rms_norm(nn.heads(nn.linear(x, block.attn_v), hp.n_kv_heads), None, hp.norm_eps)
        kept[this] = nn.remember(k, v, batch, kept[this])
    q = nn.rope(q, batch.positions, frequencies, style="halves")
    return nn.linear(nn.attend(q, batch, kept[read], scale=1.0), block.attn_output)


def feed_forward(block: Block, above: float, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden); gates count `above` so many standard deviations over their mean."""
    gate, up = nn.linear(x, block.ffn_gate), nn.linear(x, block.ffn_up)
    if above > -inf:
        count = int(gate.shape[1])  # type: ignore[arg-type]  # only the first axis is symbolic
        mean = gate.sum(1) / count
        spread = nn.root(((gate - mean) * (gate - mean)).sum(1) / count)
        gate = nn.at_least(gate - (mean + spread * above), 0.0)
    return nn.linear(nn.gelu_mul(gate, up), block.ffn_down)


def _stream(streams: Tensor, which: int) -> Tensor:
    """One of them: (T, A, hidden) to (T, hidden)."""
    return streams.slice(1, which, which + 1).reshape(streams.shape[0], streams.shape[2])


def _magnitude(x: Tensor, least: float = 0.0) -> Tensor:
    axis = len(x.shape) - 1
    return nn.root(nn.at_least((x * x).sum(axis) / int(x.shape[axis]), least))  # type: ignore[arg-type]


def _as_large(streams: Tensor, x: Tensor) -> Tensor:
    """Each of (T, n, hidden) made as large as (T, hidden)."""
    return streams * _magnitude(x).reshape(x.shape[0], 1, 1) / _magnitude(streams, 1e-5)


def _modalities(block: Block, hp: Hparams, x: Tensor) -> Tensor:
    x = nn.rms_norm(x, block.altup_router_norm, hp.norm_eps) * (1.0 / hp.hidden_size)
    return nn.tanh(nn.linear(x, block.altup_router))


def _predicted(block: Block, hp: Hparams, streams: Tensor) -> Tensor:
    mixed = nn.linear(_modalities(block, hp, _stream(streams, hp.active_stream)), block.altup_predict_coef)
    return nn.matmul(nn.heads(mixed, hp.n_streams), streams) + streams


def _corrected(block: Block, hp: Hparams, streams: Tensor, x: Tensor) -> Tensor:
    news = (x - _stream(streams, hp.active_stream)).reshape(x.shape[0], 1, hp.hidden_size)
    share = nn.linear(_modalities(block, hp, x), block.altup_correct_coef) + 1.0
    return streams + news * share.reshape(x.shape[0], hp.n_streams, 1)


def _merged(net: Network, hp: Hparams, streams: Tensor) -> Tensor:
    first = _stream(streams, 0)
    others = _as_large(nn.each_head(streams.slice(1, 1, hp.n_streams), net.altup_unembd_proj), first)
    return (first + others.sum(1).reshape(*first.shape)) / hp.n_streams


HF_NAMES = gemma3.HF_NAMES | {
    "model.altup_projections.{}": "altup_proj",
    "model.altup_unembed_projections.{}": "altup_unembd_proj",
    "model.embed_tokens_per_layer": "per_layer_token_embd",
    "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm",
    "model.layers.{}.altup.correction_coefs": "blk.{}.altup_correct_coef",
    "model.layers.{}.altup.prediction_coefs": "blk.{}.altup_predict_coef",
    "model.layers.{}.altup.modality_router": "blk.{}.altup_router",
    "model.layers.{}.altup.router_norm": "blk.{}.altup_router_norm",
    "model.layers.{}.laurel.linear_left": "blk.{}.laurel_l",
    "model.layers.{}.laurel.linear_right": "blk.{}.laurel_r",
    "model.layers.{}.laurel.post_laurel_norm": "blk.{}.laurel_post_norm",
    "model.layers.{}.per_layer_input_gate": "blk.{}.inp_gate",
    "model.layers.{}.per_layer_projection": "blk.{}.proj",
    "model.layers.{}.post_per_layer_input_norm": "blk.{}.post_norm",
}
HF_TENSORS = {"model.layers.{}.altup.correct_output_scale": "blk.{}.altup_correct_scale.weight"}


def from_hf(name: str, hp: Hparams) -> Transform | None:
    """Tokens without an embedding of the blocks' own have that of the first."""
    return base.pad_rows(hp.vocab_size) if name == "per_layer_token_embd.weight" and hp.vocab_size else None


def hparams_from_hf(config: Config) -> Hparams:
    """Windows are listed, and shares of gates become numbers of standard deviations."""
    blocks = config["num_hidden_layers"]
    local = rope.from_hf(config, config["head_dim"], "sliding_attention") if config.get("rope_parameters") else None
    types, shares = config.get("layer_types"), config.get("activation_sparsity_pattern")
    if not isinstance(shares, Sequence):
        shares = [SPARSITY if shares is None and i < SPARSE_BLOCKS < blocks else shares or 0.0 for i in range(blocks)]
    known: dict[str, Any] = {**config, "sparsity": [_deviations(float(share)) for share in shares]}
    known["sliding_window_pattern"] = [
        kind == "sliding_attention" if types else (i + 1) % EVERY != 0 for i, kind in enumerate(types or range(blocks))
    ]
    return Hparams.from_hf("gemma3n", known | ({"rope_local_base_freq": local.theta} if local else {}))


def _deviations(share: float) -> float:
    """Where the normal distribution has so great a share below it, by bisection; -inf for none."""
    at, step = 0.0, 10.0
    while (step := step / 2) > 1e-15:
        at += step if (1 + erf(at / 2**0.5)) / 2 < share else -step
    return at if share > 0 else -inf
