"""config.json, and what stands beside it about the network: pooling and ModelOpt's quantization. No tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from puna.create.json_files import read_json
from puna.create.sentences import said_of
from puna.errors import ConversionError

START = ("decoder_start_token_id", "forced_bos_token_id")
"""Keys that may stand in generation_config.json alone."""


def read_config(root: Path) -> dict[str, Any]:
    """config.json, with what sentence-transformers says about pooling as `pooling_type`.

    What ModelOpt says in hf_quant_config.json is its `quantization_config`, if it has none, and what
    generation_config.json says of how answers of an encoder-decoder begin, its own.
    """
    config: dict[str, Any] | None = read_json(root / "config.json")
    if config is None:
        raise ConversionError(f"converting {root}: there is no config.json; a checkpoint directory has one")
    generation = read_json(root / "generation_config.json") or {}
    config |= {key: generation[key] for key in START if key in generation and config.get(key) is None}
    modelopt = (read_json(root / "hf_quant_config.json") or {}).get("quantization")
    if isinstance(modelopt, dict) and config.get("quantization_config") is None:
        config["quantization_config"] = {"quant_method": "modelopt", **modelopt}
    return config | said_of(root)


def class_of(root: Path, config: Mapping[str, Any]) -> str:
    """The class that the checkpoint is for: the first of its `architectures`; ConversionError where it names none."""
    classes = config.get("architectures")
    if not isinstance(classes, list) or not classes:
        raise ConversionError(f"converting {root}: config.json has no 'architectures'; its first entry is needed")
    return str(classes[0])
