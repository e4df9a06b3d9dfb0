"""A model as Hugging Face's libraries call it: config.json and tensors, by an architecture's own tables read backwards.

What comes out is read forwards again, and has to be what went in: an architecture whose tables cannot be read
backwards is refused, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from puna.arch.base import Architecture, Hparams, Transform
from puna.arch.hparams import FIELDS
from puna.dtypes import Stored
from puna.errors import ConversionError, ModelError
from puna.nn import Rope

Array = NDArray[Any]


class Called(NamedTuple):
    """What others call an architecture, fields where they have another word, and what they ask for besides."""

    model_type: str
    words: Mapping[str, str] = {}
    more: Mapping[str, Any] = {}


EXPERTS = {"n_experts": "num_experts"}
OF_MIXTRAL = "block_sparse_moe"
"""In names that other mixtures may have, but publish under others."""

MODELS = {
    "llama": Called("llama"),
    "qwen2": Called("qwen2"),
    "qwen3": Called("qwen3"),
    "gemma": Called("gemma"),
    "gemma2": Called("gemma2"),
    "gemma3": Called("gemma3_text"),
    "phi2": Called("phi"),
    "phi3": Called("phi3"),
    "olmo2": Called("olmo2"),
    "olmoe": Called("olmoe", EXPERTS, {"norm_topk_prob": False}),
    "granite": Called("granite", {"logit_scale": "logits_scaling"}),
    "smollm3": Called("smollm3"),
    "starcoder2": Called("starcoder2"),
    "command-r": Called("cohere"),
    "cohere2": Called("cohere2"),
    "glm4": Called("glm4"),
    "seed_oss": Called("seed_oss"),
    "hunyuan-dense": Called("hunyuan_v1_dense"),
}
"""Architectures that have been compared with mlx-lm."""

UNKNOWN = {"gemma3": ("final_softcap", "attention_softcap")}
"""Hyperparameters that mlx-lm passes over."""

FACTORS = "rope_freqs.weight"
LLAMA3 = [
    {"rope_type": "llama3", "factor": by, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8192} for by in (8.0, 32.0)
]  # fmt: skip
"""The settings that published models have; a file keeps what they come to."""


class Source(NamedTuple):
    """A tensor under its own name in Hugging Face's words: `rows` moves rows of anything that has as many."""

    name: str
    stored: Stored
    place: int | None
    rows: Callable[[Array], Array]
    minus: float


def config_of(arch: Architecture, hp: Hparams, tensors: Mapping[str, Stored]) -> dict[str, Any]:
    """A config.json that is read as these hyperparameters; ModelError where there is none such."""
    if arch.name not in MODELS:
        raise ModelError(f"exporting: '{arch.name}' has no way back to config.json here; {', '.join(MODELS)} have one")
    called = MODELS[arch.name]
    config: dict[str, Any] = {"architectures": [arch.hf_classes[0]], "model_type": called.model_type}
    config |= {**arch.hf_defaults, **called.more, **_said(hp, called.words)}
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config["vocab_size"] = int(tensors["token_embd.weight"].shape[0])
    config |= {"attention_bias": "blk.0.attn_q.bias" in tensors, "mlp_bias": "blk.0.ffn_up.bias" in tensors}
    if getattr(hp, "sliding_window", None) and arch.name == "llama":
        config |= {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    if getattr(hp, "n_experts", None) and arch.name == "llama":
        config |= {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}
    if arch.name == "command-r" and "blk.0.attn_q_norm.weight" in tensors:
        raise ModelError("exporting: mlx-lm's cohere has no norms of queries and keys, which this model has")
    if odd := [name for name in UNKNOWN.get(arch.name, ()) if getattr(hp, name, None)]:
        raise ModelError(f"exporting: mlx-lm's {called.model_type} has no {', '.join(odd)}, which this model has")
    if FACTORS in tensors:
        config["rope_scaling"] = _scaling(arch, hp, config, tensors[FACTORS])
    config = {key: value for key, value in config.items() if value is not None}
    found = arch.hparams_from_hf(config)
    if differs := [f.name for f in fields(hp) if not _same(getattr(found, f.name), getattr(hp, f.name))]:
        raise ModelError(f"exporting: config.json has no words for this model's {', '.join(differs)}")
    return config


def _said(hp: Hparams, words: Mapping[str, str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in fields(hp):
        value = getattr(hp, field.name)
        if isinstance(value, Rope):
            out |= _rope(value, hp)
        elif field.name == "sliding_window_pattern" and isinstance(value, tuple):
            out[field.name] = _every(value)
        elif value is not None and (keys := FIELDS[field.name].hf.split()):
            out[words.get(field.name, keys[0])] = value
    if scale := getattr(hp, "scale", None):  # what scores are multiplied by, where config.json says it
        out["query_pre_attn_scalar"] = round(scale**-2, 3)
    return out


def _every(windows: tuple[bool, ...]) -> int:
    """The n of a pattern in which every nth block sees all; ModelError for another pattern."""
    for n in range(1, len(windows) + 2):
        if windows == tuple((i + 1) % n != 0 for i in range(len(windows))):
            return n
    raise ModelError("exporting: config.json has no words for this model's pattern of windows")


def _rope(rope: Rope, hp: Hparams) -> dict[str, Any]:
    out: dict[str, Any] = {"rope_theta": rope.theta}
    size = getattr(hp, "head_dim", rope.dim)
    if rope.dim != size:
        out["partial_rotary_factor"] = rope.dim / size
    if rope.scaling == "none":
        return out
    scaling = {"rope_type": rope.scaling, "factor": rope.factor}
    if rope.scaling == "yarn":
        if rope.attention_factor or not rope.truncate:
            raise ModelError("exporting: mlx-lm knows no attention factor of yarn, and always truncates")
        known = {name: getattr(rope, name) for name in ("beta_fast", "beta_slow")}
        scaling |= {"original_max_position_embeddings": rope.original_context, **known}
    return out | {"rope_scaling": scaling}


def _scaling(arch: Architecture, hp: Hparams, config: Mapping[str, Any], factors: Stored) -> dict[str, Any]:
    """The settings that come to a file's factors."""
    for settings in LLAMA3:
        made = arch.extra_tensors({**config, "rope_scaling": settings}, hp).get(FACTORS)
        if made is not None and np.array_equal(np.asarray(made, np.float32), factors.numpy()):
            return settings
    raise ModelError("exporting: the file's rotary factors are of no settings that published models have")


def _same(a: Any, b: Any) -> bool:
    """Equal, as far as a float32 of a file tells."""
    if isinstance(a, Rope) and isinstance(b, Rope):
        return all(_same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple) and isinstance(b, int):
        return _every(a) == b
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.float32(a) == np.float32(b))
    return bool(a == b)


def sources_of(arch: Architecture, hp: Hparams, tensors: Mapping[str, Stored]) -> Iterator[Source]:
    """Every tensor that config.json does not say; ConversionError for one that has no way back."""
    for name, stored in tensors.items():
        if name == FACTORS:
            continue
        rows, minus = _back(name, arch.transforms(name, hp))
        for hf, place in _names(arch, name, stored):
            yield Source(hf, stored, place, rows, minus)


def _names(arch: Architecture, name: str, stored: Stored) -> list[tuple[str, int | None]]:
    """What a tensor is called, or those that are stacked in it."""
    others = OF_MIXTRAL if MODELS[arch.name].words is EXPERTS else "?"
    for hf in (hf for hf in arch.hf_sources(name) if others not in hf):
        if "*" not in hf:
            if arch.targets(hf) == ((name, None),):
                return [(hf, None)]
        elif all(arch.targets(hf.replace("*", str(i))) == ((name, i),) for i in range(stored.shape[0])):
            return [(hf.replace("*", str(i)), i) for i in range(stored.shape[0])]
    raise ConversionError(
        f"exporting: '{name}' has no name of its own at Hugging Face's; it is a part of another tensor"
    )


def _back(name: str, transforms: tuple[Transform, ...]) -> tuple[Callable[[Array], Array], float]:
    """What undoes the changes of a tensor: of its rows, and what is taken from its values."""
    rows, minus = list[Callable[[Array], Array]](), 0.0
    for each in reversed(transforms):
        if each.kind == "permute_rope":
            heads = int(each.arguments[0])
            rows.append(partial(_halves, heads))
        elif each.kind == "plus_one":
            minus = 1.0
        else:
            raise ConversionError(f"exporting: '{name}' has no way back: {each}")

    def whole(array: Array) -> Array:
        for each in rows:
            array = each(array)
        return array

    return whole, minus


def _halves(heads: int, array: Array) -> Array:
    """Rows of each head from ggml's pairs to Hugging Face's halves."""
    pairs = array.reshape(heads, array.shape[0] // heads // 2, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)
