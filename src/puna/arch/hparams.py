"""Hyperparameters: one table that maps each field to its GGUF key and its Hugging Face key, read both ways.

An architecture's `Hparams` declares which fields it has; a field without a default must be found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, NamedTuple, Self, TypeVar

from puna.errors import ModelError
from puna.nn import Rope

Config = Mapping[str, Any]


class Row(NamedTuple):
    """Where a field is found: the GGUF key after '<arch>.', the HF config keys in order of preference."""

    gguf: str
    hf: str
    otherwise: Callable[[Mapping[str, Any]], Any] | None = None  # from the fields found so far


def _head_dim(found: Mapping[str, Any]) -> int:
    return int(found["hidden_size"] // found["n_heads"])


FIELDS: dict[str, Row] = {
    "n_blocks": Row("block_count", "num_hidden_layers n_layer n_layers"),
    "hidden_size": Row("embedding_length", "hidden_size n_embd d_model"),
    "ffn_size": Row("feed_forward_length", "intermediate_size n_inner"),
    "n_heads": Row("attention.head_count", "num_attention_heads n_head"),
    "n_kv_heads": Row("attention.head_count_kv", "num_key_value_heads", lambda found: found["n_heads"]),
    "head_dim": Row("attention.key_length", "head_dim", _head_dim),
    "context_length": Row("context_length", "max_position_embeddings n_positions"),
    "vocab_size": Row("vocab_size", "vocab_size"),
    "norm_eps": Row("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    "layer_norm_eps": Row("attention.layer_norm_epsilon", "layer_norm_eps layer_norm_epsilon"),
    "sliding_window": Row("attention.sliding_window", "sliding_window"),
    "sliding_window_pattern": Row("attention.sliding_window_pattern", "sliding_window_pattern"),
    "rope_theta_local": Row("rope.freq_base_swa", "rope_local_base_freq"),
    "attention_scale": Row("attention.scale", ""),
    "pooling_type": Row("pooling_type", "pooling_type"),
    "causal": Row("attention.causal", ""),
}
"""Every field but `rope`, which several keys describe (see `rope_from_gguf`)."""


H = TypeVar("H", bound="Hparams")


@dataclass(frozen=True, kw_only=True)
class Hparams:
    """What every architecture has; its file adds the rest. `vocab_size` 0: as many as the embedding has rows."""

    n_blocks: int
    hidden_size: int
    ffn_size: int
    n_heads: int
    context_length: int
    vocab_size: int = 0

    @classmethod
    def from_gguf(cls, arch: str, metadata: Config) -> Self:
        """From GGUF metadata; ModelError names a missing key."""
        return _read(
            cls,
            lambda row: [f"{arch}.{row.gguf}"],
            metadata,
            rope=lambda found: rope_from_gguf(arch, metadata, found["head_dim"]),
            what=arch,
        )

    @classmethod
    def from_hf(cls, arch: str, config: Config) -> Self:
        """From a Hugging Face config.json; ModelError names a missing key."""
        return _read(
            cls,
            lambda row: row.hf.split(),
            config,
            rope=lambda found: rope_from_hf(config, found["head_dim"]),
            what=f"{arch}: config.json",
        )

    def to_gguf(self, arch: str) -> dict[str, Any]:
        """The metadata that `from_gguf` reads. Integers, floats and bools keep their kind."""
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Rope):
                out |= rope_to_gguf(arch, value)
            elif field.name in FIELDS and value is not None:
                out[f"{arch}.{FIELDS[field.name].gguf}"] = value
        if "head_dim" in {f.name for f in fields(self)}:
            out[f"{arch}.attention.value_length"] = out[f"{arch}.attention.key_length"]
        return out


def _read(
    cls: type[H],
    keys_of: Callable[[Row], list[str]],
    values: Config,
    rope: Callable[[Mapping[str, Any]], Rope],
    what: str,
) -> H:
    found: dict[str, Any] = {}
    for field in sorted(fields(cls), key=lambda f: f.name == "rope"):
        if field.name == "rope":
            found["rope"] = rope(found)
            continue
        row = FIELDS[field.name]
        keys = keys_of(row)
        value = next((values[k] for k in keys if values.get(k) is not None), None)
        if value is None and row.otherwise:
            value = row.otherwise(found)
        elif value is None and field.default is MISSING:
            raise ModelError(f"{what}: has no '{' or '.join(keys)}', which '{field.name}' needs")
        if value is not None:
            found[field.name] = _checked(f"{what}: '{keys[0]}'" if keys else what, value, str(field.type))
    return cls(**found)


KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def _checked(what: str, value: Any, annotation: str) -> Any:
    """The value in its field's type; a list of one repeated value is that value."""
    if not isinstance(value, (str, bool, int, float)):
        distinct = sorted(set(value))
        if len(distinct) != 1:
            raise ModelError(f"{what}: differs from block to block ({distinct}), which is not supported here")
        value = distinct[0]
    kind = annotation.split(" |")[0]
    if kind in KINDS:
        if not isinstance(value, KINDS[kind]) or (kind != "bool" and isinstance(value, bool)):
            raise ModelError(f"{what}: {value!r} is not of type {kind}")
        if kind == "int" and value < 0:
            raise ModelError(f"{what}: {value} is negative")
        return float(value) if kind == "float" else value
    return value


# ---- rope -----------------------------------------------------------------------------------------------------------

ROPE_GGUF = {
    "factor": "rope.scaling.factor",
    "original_context": "rope.scaling.original_context_length",
    "attention_factor": "rope.scaling.attn_factor",
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
}
"""Rope's fields besides theta, dim and scaling, by GGUF key."""

THETA_OF_OLD_FILES = 10000.0
"""Files from before the key `rope.freq_base` was written all mean this."""


def rope_from_gguf(arch: str, metadata: Config, head_dim: int) -> Rope:
    """Rotary settings of a GGUF file. Frequency factors are a tensor, `rope_freqs.weight`, not metadata."""

    def key(name: str) -> Any:
        return metadata.get(f"{arch}.{name}")

    scaling = str(key("rope.scaling.type") or "none")
    factor_of_old_files = key("rope.scale_linear")
    if factor_of_old_files and scaling == "none":
        scaling = "linear"
    known = {field: key(name) for field, name in ROPE_GGUF.items()}
    known["factor"] = known["factor"] or factor_of_old_files
    return Rope(
        theta=float(key("rope.freq_base") or THETA_OF_OLD_FILES),
        dim=int(key("rope.dimension_count") or head_dim),
        scaling=scaling,
        **{field: value for field, value in known.items() if value is not None},
    )


def rope_to_gguf(arch: str, rope: Rope) -> dict[str, Any]:
    """The metadata that `rope_from_gguf` reads."""
    out: dict[str, Any] = {f"{arch}.rope.freq_base": rope.theta, f"{arch}.rope.dimension_count": rope.dim}
    if rope.scaling != "none":
        out[f"{arch}.rope.scaling.type"] = rope.scaling
        out[f"{arch}.rope.scaling.factor"] = rope.factor
    if rope.scaling == "yarn":
        out[f"{arch}.rope.scaling.original_context_length"] = rope.original_context
        for field in ("beta_fast", "beta_slow"):
            out[f"{arch}.{ROPE_GGUF[field]}"] = getattr(rope, field)
        if rope.attention_factor:
            out[f"{arch}.{ROPE_GGUF['attention_factor']}"] = rope.attention_factor
    return out


def rope_parameters(config: Config, layer_type: str = "full_attention") -> dict[str, Any]:
    """The rope settings of a config in one form: `rope_type`, `rope_theta` and what the type needs.

    Reads `rope_parameters` (plain, or one for each layer type) and the older `rope_theta` + `rope_scaling`.
    """
    said: Config = config.get("rope_parameters") or {}
    whole = dict(said.get(layer_type, said))
    whole.setdefault("rope_theta", config.get("rope_theta"))
    whole |= config.get("rope_scaling") or {}
    whole["rope_type"] = whole.get("rope_type") or whole.pop("type", None) or "default"
    return whole


ROPE_HF = {
    "default": "none",
    "linear": "linear",
    "yarn": "yarn",
    "llama3": "none",  # a tensor of factors, see `llama3_factors`
}
"""Scaling of each HF rope type that is understood."""

YARN_UNSUPPORTED = ("mscale", "mscale_all_dim")


def rope_from_hf(config: Config, head_dim: int, layer_type: str = "full_attention") -> Rope:
    """Rotary settings of an HF config; ModelError names a rope type or key that is not understood."""
    p = rope_parameters(config, layer_type)
    if p["rope_type"] not in ROPE_HF:
        raise ModelError(f"config.json: rope type '{p['rope_type']}' is unknown; known: {', '.join(sorted(ROPE_HF))}")
    if p["rope_theta"] is None:
        raise ModelError("config.json: has no 'rope_theta'; rotary positions need it")
    if odd := [k for k in YARN_UNSUPPORTED if p.get(k)]:
        raise ModelError(f"config.json: rope key '{odd[0]}' is not supported")
    partial = float(p.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0)
    rope = Rope(theta=float(p["rope_theta"]), dim=int(head_dim * partial), scaling=ROPE_HF[p["rope_type"]])
    if rope.scaling == "none":
        return rope
    settings: dict[str, Any] = {"factor": float(p["factor"])}
    if rope.scaling == "yarn":
        context = p.get("original_max_position_embeddings") or config.get("max_position_embeddings")
        settings["original_context"] = int(context or 0)
        names = ("beta_fast", "beta_slow", "attention_factor")
        settings |= {name: float(p[name]) for name in names if p.get(name) is not None}
    return Rope(theta=rope.theta, dim=rope.dim, scaling=rope.scaling, **settings)


def llama3_factors(config: Config, head_dim: int) -> list[float] | None:
    """Divisors of the rotary frequencies under rope type llama3, else None (transformers' modeling_rope_utils)."""
    from math import pi

    p = rope_parameters(config)
    if p["rope_type"] != "llama3":
        return None
    factor, low, high = (float(p[k]) for k in ("factor", "low_freq_factor", "high_freq_factor"))
    context = float(p["original_max_position_embeddings"])
    out = []
    for i in range(head_dim // 2):
        wave = 2 * pi * float(p["rope_theta"]) ** (2 * i / head_dim)
        smooth = (context / wave - low) / (high - low)
        inside = 1.0 / ((1 - smooth) / factor + smooth)
        out.append(1.0 if wave < context / high else factor if wave > context / low else inside)
    return out
