"""config.json, and what stands beside it about the network: pooling and ModelOpt's quantization. No tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from puna.errors import ConversionError

POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}
"""Sentence-transformers' names of GGUF's pooling types."""

DENSE = "dense_modules"
"""The key for folders of matrices after pooling; their tensors are called `<folder>.linear.weight`."""

OLD_POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
"""Parts of a sentence-transformers model that are understood; embeddings always have unit length."""


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
    modules = [m for m in read_json(root / "modules.json", kind=list) or [] if isinstance(m, dict)]
    for module in modules:
        kind = str(module.get("type")).rpartition(".")[2]
        if kind not in MODULES:
            raise ConversionError(f"converting {root}: modules.json has a '{kind}'; known: {', '.join(MODULES)}")
        if kind == "Pooling":
            config["pooling_type"] = _pooling_type(root, str(module.get("path", "")))
        if kind == "Dense":
            folder = str(module.get("path", ""))
            config.setdefault(DENSE, []).append(folder)
            config |= _dense(root, folder)
    return config


def _dense(root: Path, folder: str) -> dict[str, Any]:
    """The sizes of a matrix that follows pooling, as `dense_2_in` and so on; ConversionError where it is more."""
    path = root / folder / "config.json"
    config = read_json(path) if path.resolve().is_relative_to(root.resolve()) else None
    if config is None:
        raise ConversionError(f"converting {root}: modules.json names '{folder}', which has no config.json")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation != "Identity" or config.get("bias", True):
        raise ConversionError(
            f"reading {path}: a Dense with {'a bias' if config.get('bias', True) else activation}; one with neither "
            "bias nor activation works"
        )
    place = folder.partition("_")[0]
    return {f"dense_{place}_{side}": config.get(f"{side}_features") for side in ("in", "out")}


def _pooling_type(root: Path, folder: str) -> int:
    path = root / folder / "config.json"
    config = read_json(path) if path.resolve().is_relative_to(root.resolve()) else None
    if config is None:
        raise ConversionError(f"converting {root}: modules.json names '{folder}', which has no config.json")
    old = [OLD_POOLING.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    said = config.get("pooling_mode") or old
    modes = said if isinstance(said, list) else [said]
    if len(modes) != 1 or modes[0] not in POOLING:
        raise ConversionError(f"reading {path}: pooling is {modes}; one of these works: {', '.join(POOLING)}")
    return POOLING[modes[0]]


def class_of(root: Path, config: Mapping[str, Any]) -> str:
    """The class that the checkpoint is for: the first of its `architectures`; ConversionError where it names none."""
    classes = config.get("architectures")
    if not isinstance(classes, list) or not classes:
        raise ConversionError(f"converting {root}: config.json has no 'architectures'; its first entry is needed")
    return str(classes[0])


def read_json(path: Path, kind: type = dict) -> Any:
    """What a JSON file holds, None where there is no file; ConversionError where it is broken or no `kind`."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"reading {path}: it is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise ConversionError(f"reading {path}: it holds a {type(value).__name__}, not a {kind.__name__}")
    return value
