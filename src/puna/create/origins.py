"""Where each metadata key of a converted checkpoint comes from, in words. It reads no values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from puna.arch.base import Architecture, Hparams
from puna.arch.hparams import FIELDS
from puna.nn import Rope

ROPE = ("rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings")

OTHERS = (
    (r"general\.architecture", "config.json: architectures"),
    (r"general\.(name|basename)", "README.md: model_name, else config.json: _name_or_path, else the architecture"),
    (r"general\.(parameter_count|size_label)", "the tensors' shapes"),
    (r"general\.(file_type|quantization_version)", "the types that tensors are written in"),
    (r"general\..*", "Puna"),
    (r"puna\.embedding\.(prompt_.*|default_prompt|similarity)", "config_sentence_transformers.json"),
    (r"puna\.embedding\.(max_length|lowercase)", "sentence_bert_config.json, else tokenizer_config.json"),
    (r"puna\.embedding\..*", "modules.json and the folder of Pooling"),
    (r"puna\..*", "Puna"),
    (r"quantize\.imatrix\..*", "the importance matrix"),
    (r".*\.pooling_type", "modules.json: the folder of Pooling"),
)
"""Whole keys, tried in order after hyperparameters."""


def origins(
    arch: Architecture, hp: Hparams, said: Mapping[str, Any], keys: Iterable[str], told: Mapping[str, str]
) -> dict[str, str]:
    """Text for each of `keys`: a file and a key of it, or what else it follows from. The tokenizer's know their own.

    `told` has such texts for keys of `said` that config.json does not say itself.
    """
    known = {f"{arch.name}.{key}": text for key, text in _hparams(hp, said, told)}
    if "architectures" in told:
        known["general.architecture"] = told["architectures"]
    return {key: known.get(key) or _other(key) for key in keys}


def _hparams(hp: Hparams, said: Mapping[str, Any], told: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for field in fields(hp):
        if isinstance(getattr(hp, field.name), Rope):
            there = [key for key in ROPE if _said(said, key)]
            for key in ("dimension_count", "freq_base", "scaling.type", "scaling.factor", "scaling.attn_factor"):
                yield f"rope.{key}", _named(said, told, there) or "the class's default"
            for key in ("original_context_length", "yarn_beta_fast", "yarn_beta_slow", "yarn_attn_factor"):
                yield f"rope.scaling.{key}", _named(said, told, there) or "the class's default"
        elif row := FIELDS.get(field.name):
            there = [key for key in row.hf.split() if _said(said, key)]
            text = _named(said, told, there[:1]) or ("the class's default" if row.hf else "the architecture")
            for key in row.gguf.split()[:1]:
                yield key, text
                if key == "attention.key_length":
                    yield "attention.value_length", text


def _said(said: Mapping[str, Any], key: str) -> str:
    """Where config.json has a key, or nothing."""
    inner = said.get("text_config")
    if isinstance(inner, Mapping) and inner.get(key) is not None:
        return f"text_config.{key}"
    return key if said.get(key) is not None else ""


def _named(said: Mapping[str, Any], told: Mapping[str, str], keys: list[str]) -> str:
    if told:
        return ", ".join(dict.fromkeys(told[key] for key in keys if key in told))
    return f"config.json: {', '.join(_said(said, key) for key in keys)}" if keys else ""


def _other(key: str) -> str:
    return next((text for pattern, text in OTHERS if re.fullmatch(pattern, key)), "the architecture")
