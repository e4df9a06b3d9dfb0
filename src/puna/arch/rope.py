"""Rotary settings as files say them: GGUF keys both ways, the two dialects of config.json, Llama 3's factors.

A key that is not understood is an error, as it would change numbers. What the settings mean is `puna.nn.Rope`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import log, pi, sqrt
from typing import Any, NamedTuple

from puna.errors import ModelError
from puna.nn import Rope

Config = Mapping[str, Any]
Find = Callable[[str], Any]
"""The value of a GGUF key after '<arch>.', or None."""

TRUNCATE = "rope.scaling.yarn_truncate"
"""Puna's own key: ggml always does, and files say nothing of it."""

GGUF_KEYS = {
    "factor": "rope.scaling.factor",
    "original_context": "rope.scaling.original_context_length",
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
    "truncate": TRUNCATE,
}
"""Rope's fields besides theta, dim, scaling and attention_factor."""

TIMES_DEFAULT = "rope.scaling.attn_factor"
"""What ggml multiplies yarn's default attention factor by, and 1 without yarn."""

WHOLE_FACTOR = "rope.scaling.yarn_attn_factor"
"""The whole attention factor, as converters copy it from HF."""

FACTOR_OF_OLD_FILES = "rope.scale_linear"
"""Where they say the factor. In any file, a factor of 0 is 1, and a factor without a type is of linear scaling."""

THETA_OF_OLD_FILES = 10000.0
"""Files from before the key `rope.freq_base` was written all mean this."""


def from_gguf(find: Find, head_dim: int) -> Rope:
    """Rotary settings of a GGUF file. Frequency factors are a tensor, `rope_freqs.weight`, not metadata."""
    known = {field: find(key) for field, key in GGUF_KEYS.items()}
    known["factor"] = known["factor"] or find(FACTOR_OF_OLD_FILES) or None
    scaling = str(find("rope.scaling.type") or "linear")
    if scaling == "linear" and known["factor"] is None:
        scaling = "none"
    rope = Rope(
        theta=float(find("rope.global.freq_base") or find("rope.freq_base") or THETA_OF_OLD_FILES),
        dim=int(find("rope.dimension_count") or head_dim),
        scaling=scaling,
        attention_factor=float((scaling == "yarn" and find(WHOLE_FACTOR)) or 0.0),
        **{field: value for field, value in known.items() if value is not None and scaling != "none"},
    )
    times = find(TIMES_DEFAULT)
    if times in (None, 1.0):
        return rope
    return replace(rope, attention_factor=float(times) * replace(rope, attention_factor=0.0).scale)


def to_gguf(rope: Rope) -> dict[str, Any]:
    """The keys, after '<arch>.', that `from_gguf` reads."""
    out: dict[str, Any] = {"rope.freq_base": rope.theta, "rope.dimension_count": rope.dim}
    if rope.scaling != "none":
        out |= {"rope.scaling.type": rope.scaling, "rope.scaling.factor": rope.factor}
    if rope.scaling == "yarn":
        fields = ("original_context", "beta_fast", "beta_slow", "truncate")
        out |= {GGUF_KEYS[field]: getattr(rope, field) for field in fields}
    if rope.attention_factor:
        out[TIMES_DEFAULT] = rope.attention_factor / replace(rope, attention_factor=0.0).scale
    return out


# ---- config.json ----------------------------------------------------------------------------------------------------

COMMON = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
HF_KEYS = {
    "default": (),
    "dynamic": ("factor",),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
}
"""Each rope type that is understood, with the keys it needs. llama3 becomes a tensor of factors, see below; dynamic
changes nothing in texts as long as the context that the config says, and longer ones are not for GGUF to say."""

YARN_OPTIONS = ("beta_fast", "beta_slow", "attention_factor")
YARN_SCALES = {"mscale", "mscale_all_dim"}
MAY_BE_ZERO = {"attention_factor", *YARN_SCALES}
OPTIONAL = {"yarn": {*YARN_OPTIONS, *YARN_SCALES, "truncate"}}


def settings(config: Config, layer_type: str = "full_attention") -> dict[str, Any]:
    """The rope settings of a config in one form, checked: `rope_type`, `rope_theta` and what the type needs.

    Reads `rope_parameters` (plain, or one for each layer type) and the older `rope_theta` + `rope_scaling`.
    """
    said: Any = config.get("rope_parameters") or config.get("rope_scaling") or {}
    said = said.get(layer_type, said) if isinstance(said, Mapping) else said
    if not isinstance(said, Mapping):
        raise ModelError(f"config.json: the rope settings are {said!r}; an object works")
    whole = {key: value for key, value in said.items() if value is not None}
    whole.setdefault("rope_theta", config.get("rope_theta"))
    kind = whole["rope_type"] = whole.get("rope_type") or whole.pop("type", None) or "default"
    if not isinstance(kind, str) or kind not in HF_KEYS:
        raise ModelError(f"config.json: rope type '{kind}' is unknown; known: {', '.join(sorted(HF_KEYS))}")
    if missing := [key for key in ("rope_theta", *HF_KEYS[kind]) if whole.get(key) is None]:
        raise ModelError(f"config.json: has no '{missing[0]}', which rotary positions of type '{kind}' need")
    if odd := whole.keys() - COMMON - set(HF_KEYS[kind]) - OPTIONAL.get(kind, set()):
        raise ModelError(f"config.json: rope key '{min(odd)}' is not understood for type '{kind}'")
    if not isinstance(whole.get("truncate", True), bool):
        raise ModelError(f"config.json: rope key 'truncate' is {whole['truncate']!r}; true or false would work")
    for key in whole.keys() - {"rope_type", "type", "truncate"}:
        _check_number(key, whole[key])
    if kind == "llama3" and not whole["low_freq_factor"] < whole["high_freq_factor"]:
        raise ModelError("config.json: rope key 'low_freq_factor' is not below 'high_freq_factor'")
    return whole


def _check_number(key: str, value: Any) -> None:
    """ModelError where it is no number, or is beyond what GGUF's F32 holds, or is 0 where that means nothing."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 3e38
    if not fits or (value == 0 and key not in MAY_BE_ZERO):
        raise ModelError(f"config.json: rope key '{key}' is {value!r}; a number above 0 would work")


def from_hf(config: Config, head_dim: int, layer_type: str = "full_attention") -> Rope:
    """Rotary settings of an HF config; ModelError names a rope type or key that is not understood."""
    p = settings(config, layer_type)
    part = p.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    _check_number("partial_rotary_factor", part)
    plain = Rope(theta=float(p["rope_theta"]), dim=int(head_dim * float(part)))
    if p["rope_type"] in ("default", "dynamic", "llama3"):
        return plain
    rope = replace(plain, scaling=p["rope_type"], factor=float(p["factor"]))
    if rope.scaling != "yarn":
        return rope
    options: dict[str, Any] = {name: float(p[name]) for name in YARN_OPTIONS if name in p}
    if "attention_factor" not in p and p.keys() >= YARN_SCALES:
        up, down = (_magnitude(rope.factor, float(p[name])) for name in ("mscale", "mscale_all_dim"))
        options["attention_factor"] = up / down
    options["truncate"] = p.get("truncate", True)
    return replace(rope, original_context=int(p["original_max_position_embeddings"]), **options)


def _magnitude(factor: float, by: float) -> float:
    return (Rope(1.0, 2, "yarn", factor).scale - 1.0) * by + 1.0


def llama3_factors(config: Config, dim: int) -> list[float] | None:
    """Divisors of the rotary frequencies under rope type llama3, else None (transformers' modeling_rope_utils)."""
    p = settings(config)
    if p["rope_type"] != "llama3":
        return None
    factor, low, high, context = (float(p[key]) for key in HF_KEYS["llama3"])
    out = []
    for i in range(dim // 2):
        wave = 2 * pi * float(p["rope_theta"]) ** (2 * i / dim)
        smooth = (context / wave - low) / (high - low)
        inside = 1.0 / ((1 - smooth) / factor + smooth)
        out.append(1.0 if wave < context / high else factor if wave > context / low else inside)
    return out


class LongRope(NamedTuple):
    """Divisors of the frequencies in a context as long as the model was made for, and in a longer one."""

    short: list[float]
    long: list[float]
    attention_factor: float


LONGROPE_KEYS = COMMON | {
    *("short_factor", "long_factor", "factor", "attention_factor", "original_max_position_embeddings")
}


def longrope(config: Config) -> LongRope | None:
    """The settings of rope type longrope, once called su, else None; ModelError for a key that is not understood."""
    said = {k: v for k, v in (config.get("rope_parameters") or config.get("rope_scaling") or {}).items() if v}
    if (said.get("rope_type") or said.get("type")) not in ("longrope", "su"):
        return None
    if odd := said.keys() - LONGROPE_KEYS:
        raise ModelError(f"config.json: rope key '{min(odd)}' is not understood for type 'longrope'")
    whole = {**config, **said}
    if missing := {"short_factor", "long_factor", "original_max_position_embeddings"} - whole.keys():
        raise ModelError(f"config.json: has no '{min(missing)}', which rotary positions of type 'longrope' need")
    made_for = whole["original_max_position_embeddings"]
    factor = said.get("factor") or whole["max_position_embeddings"] / made_for
    usual = sqrt(1 + log(factor) / log(made_for)) if factor > 1 else 1.0
    short, long = ([float(each) for each in said[key]] for key in ("short_factor", "long_factor"))
    return LongRope(short, long, float(said.get("attention_factor") or usual))
