"""A Hugging Face checkpoint directory seen as a GGUF file: the same metadata and tensors, converted when read.

The architecture's file says names, transforms and hyperparameters; the tokenizer package reads the tokenizer's files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

from puna import arch as archs
from puna.arch.base import Architecture, Hparams, bind
from puna.create.tensors import Constant, Converted
from puna.dtypes import BF16, DTYPES, F16, F32, DType, Stored
from puna.errors import ConversionError
from puna.formats.safetensors import open_safetensors

POOLING = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
"""Sentence-transformers' names of the pooling types."""

ALWAYS_F32 = ("position_embd.weight", "token_types.weight")
"""Tables that stay float32, as do vectors and biases."""

DTYPE_CHOICES = {"auto": None, "f32": F32, "f16": F16, "bf16": BF16}
"""What matrices may become; auto keeps a 16-bit or 32-bit float as it is."""


@dataclass(frozen=True)
class Checkpoint:
    """A directory's metadata and tensors under their GGUF names."""

    directory: Path
    arch: Architecture
    hparams: Hparams
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]


def open_checkpoint(directory: str | PathLike[str], dtype: str = "auto") -> Checkpoint:
    """Open a directory with config.json, safetensors and tokenizer files; nothing large is read.

    `dtype`: auto, f32, f16, bf16. ConversionError, ModelError or FormatError names the file, key or tensor that does
    not fit.
    """
    root = Path(directory)
    if dtype not in DTYPE_CHOICES:
        raise ConversionError(f"converting {root}: dtype {dtype!r} is unknown; known: {', '.join(DTYPE_CHOICES)}")
    config = read_config(root)
    arch = archs.find_hf(_class_of(root, config))
    arch.check_config(config)
    hp = arch.hparams_from_hf(config)
    tensors = _tensors(root, arch, hp, config, DTYPE_CHOICES[dtype])
    bind(arch, hp, tensors)  # names what is missing or superfluous, before anything is converted
    return Checkpoint(root, arch, hp, _metadata(root, arch, hp, config, tensors), tensors)


def read_config(root: Path) -> dict[str, Any]:
    """config.json, with what sentence-transformers says about pooling as `pooling_type`."""
    config = _read_json(root / "config.json")
    if config is None:
        raise ConversionError(f"converting {root}: there is no config.json; a checkpoint directory has one")
    pooling = [POOLING[key] for key, on in _pooling_config(root).items() if on is True and key in POOLING]
    return config | ({"pooling_type": pooling[0]} if pooling else {})


def _pooling_config(root: Path) -> dict[str, Any]:
    modules = _read_json(root / "modules.json", kind=list) or []
    folders = [m.get("path", "") for m in modules if isinstance(m, dict) and str(m.get("type")).endswith("Pooling")]
    inside = [f for f in folders if (root / f).resolve().is_relative_to(root.resolve())]
    return next((found for f in inside if (found := _read_json(root / f / "config.json"))), {})


def _read_json(path: Path, kind: type = dict) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConversionError(f"reading {path}: it is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise ConversionError(f"reading {path}: it holds a {type(value).__name__}, not a {kind.__name__}")
    return value


def _class_of(root: Path, config: Mapping[str, Any]) -> str:
    classes = config.get("architectures")
    if not isinstance(classes, list) or not classes:
        raise ConversionError(f"converting {root}: config.json has no 'architectures'; its first entry is needed")
    return str(classes[0])


def _tensors(
    root: Path, arch: Architecture, hp: Hparams, config: Mapping[str, Any], dtype: DType | None
) -> dict[str, Stored]:
    tied = bool(config.get("tie_word_embeddings", False))
    out: dict[str, Stored] = {}
    for source_name, source in open_safetensors(root).tensors.items():
        name = arch.gguf_name(source_name)
        if name is None or (tied and name == "output.weight"):
            continue
        if name in out:
            raise ConversionError(f"converting {root}: two tensors become '{name}'; the second is '{source_name}'")
        rows = hp.vocab_size if name == "token_embd.weight" else 0
        target = policy(name, source, dtype)
        out[name] = Converted(name, source, source_name, target, arch.from_hf(name, hp), rows)
    return out | {name: Constant(tuple(v)) for name, v in arch.extra_tensors(config, hp).items()}


def policy(name: str, source: Stored, wanted: DType | None) -> DType:
    """The type a tensor is written in: vectors, biases and small tables F32, matrices as asked for or as they are."""
    if not source.dtype.is_float:
        raise ConversionError(f"converting '{name}': its type is {source.dtype}; floating-point types work")
    if len(source.shape) < 2 or name.endswith(".bias") or name in ALWAYS_F32:
        return F32
    return wanted or (source.dtype if source.dtype in (F32, F16, BF16) else F32)


def _metadata(
    root: Path, arch: Architecture, hp: Hparams, config: Mapping[str, Any], tensors: Mapping[str, Stored]
) -> dict[str, Any]:
    from puna.tokenizer import metadata_from_hf

    general = {
        "general.architecture": arch.name,
        "general.type": "model",
        "general.name": root.resolve().name,
        "general.parameter_count": sum(prod(t.shape) for t in tensors.values()),
        "general.quantization_version": 2,
        "general.file_type": FILE_TYPE_IDS[_main_type(tensors).name],
    }
    return general | hp.to_gguf(arch.name) | metadata_from_hf(root, config)


def _main_type(tensors: Mapping[str, Stored]) -> DType:
    """The type most of the model's elements have."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype.name] = sizes.get(tensor.dtype.name, 0) + prod(tensor.shape)
    return DTYPES[max(sizes, key=lambda name: sizes[name])]


FILE_TYPE_IDS = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
    "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "BF16": 32,
}  # fmt: skip
"""`general.file_type` of each mix, as llama.cpp numbers them (llama.h)."""
