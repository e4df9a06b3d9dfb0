"""PEFT's LoRA adapters: a directory with adapter_config.json and adapter_model.safetensors or .bin.

    base_model.model.<module>.lora_A.weight            (rank, columns)      lora_embedding_A   (rank, rows)
    base_model.model.<module>.lora_B.weight            (rows, rank)         lora_embedding_B   (columns, rank)
    base_model.model.<module>.lora_magnitude_vector    (rows,)              DoRA
    base_model.model.<module>.weight, .bias            whole tensors: modules_to_save, trained biases

The base's architecture says what modules are called in GGUF, and how the base's rows are moved; so are those of B.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from math import isfinite, sqrt
from os import PathLike
from pathlib import Path
from typing import Any

from puna.arch.base import Architecture, Target
from puna.create.adapters.pairs import Module, Pairs, transformed
from puna.create.json_files import read_json
from puna.dtypes import F32, Stored
from puna.errors import ConversionError
from puna.formats.lora import Adapter
from puna.formats.safetensors import open_safetensors

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
MAX_NAME = 1000  # characters

_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_embedding_A|lora_embedding_B|lora_magnitude_vector|lora_A|lora_B)"
    r"(?:\.default)?(?P<bias>\.bias)?(?:\.weight)?"
)
_WRAPPERS = re.compile(r"\.(?:base_layer|modules_to_save\.default|modules_to_save)(?=\.)")
_REFUSED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("peft_type", ("LORA",), "LORA works"),
    ("layer_replication", (None, []), "an adapter without repeated layers works"),
    ("target_parameters", (None, []), "an adapter of modules works"),
    ("trainable_token_indices", (None, {}, []), "an adapter without trained tokens works"),
    ("lora_bias", (None, False), "an adapter without biases of its own works"),
    ("use_rslora", (None, True, False), "true or false works"),
    ("fan_in_fan_out", (None, True, False), "true or false works"),
    ("use_qalora", (None, False), "a plain LoRA works"),
    ("use_bdlora", (None, False), "a plain LoRA works"),
    ("kasa_config", (None, {}), "a plain LoRA works"),
    ("arrow_config", (None, {}), "a plain LoRA works"),
    ("monteclora_config", (None, {}), "a plain LoRA works"),
    ("alora_invocation_tokens", (None, []), "a LoRA that is always active works"),
)
"""Keys of adapter_config.json whose other values would need more than a sum: key, values that are understood, hint."""

_MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of `init_lora_weights` for which training changed the base's own weights too."""


def is_peft(path: str | PathLike[str]) -> bool:
    """Whether a directory holds a PEFT adapter."""
    return (Path(path) / CONFIG).is_file()


def read_adapter_config(directory: Path) -> dict[str, Any]:
    """adapter_config.json; ConversionError names a key whose value is not understood."""
    path = directory / CONFIG
    config: dict[str, Any] | None = read_json(path)
    if config is None:
        raise ConversionError(f"reading {directory}: there is no {CONFIG}; a PEFT adapter has one")
    if "peft_type" not in config:
        raise ConversionError(f"reading {path}: there is no 'peft_type'; adapters that PEFT saved work")
    for key, known, works in _REFUSED:
        if config.get(key) not in known:
            raise ConversionError(f"reading {path}: '{key}' is {repr(config[key])[:80]}, not supported; {works}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_MOVES_BASE):
        raise ConversionError(
            f"reading {path}: 'init_lora_weights' is {start!r}: the base's weights were changed too; "
            "one that PEFT saved with path_initial_model_for_weight_conversion works"
        )
    return config


def open_peft(directory: str | PathLike[str], arch: Architecture, hp: Any, base: Mapping[str, Stored]) -> Adapter:
    """Open a PEFT adapter under the GGUF names of its base's architecture; `base` are the base's tensors.

    ConversionError names the key of the config, or the tensor, that is not understood.
    """
    root = Path(directory)
    config = read_adapter_config(root)
    modules: dict[str, Module] = {}
    whole: dict[str, Stored] = {}
    for name, tensor in _open_weights(root).items():
        _sort(root, name, tensor, modules, whole)
    names = _Names(root, arch)
    built = Pairs(root, arch, hp, fan_in_fan_out=bool(config.get("fan_in_fan_out")))
    for found in modules.values():
        for target in names.of(f"{found.name}.weight"):
            built.add(target, found, _scale(root, config, found))
    replaced: dict[str, Stored] = {}
    for source, tensor in whole.items():
        for name, place in names.of(source):
            if ".base_layer." in source and source.endswith(".weight"):
                _check_as_it_was(root, source, tensor, base.get(name))
            elif place is not None:
                raise ConversionError(f"reading {root}: '{source}' is a part of '{name}'; a change of all of it works")
            else:
                replaced[name] = transformed(name, tensor, F32, arch.transforms(name, hp))
    pairs = built.pairs()
    if not pairs and not replaced:
        raise ConversionError(f"reading {root}: the adapter has no tensors")
    return Adapter(root, arch.name, pairs, replaced)


def _check_as_it_was(root: Path, source: str, tensor: Stored, base: Stored | None) -> None:
    """What PEFT saved of the base itself is of no use, if the base still has that shape."""
    if base is not None and tuple(base.shape) != tuple(tensor.shape):
        raise ConversionError(
            f"reading {root}: '{source}' is {tuple(tensor.shape)}, the base's {tuple(base.shape)}: the vocabulary was "
            "resized; an adapter for the base as it is works"
        )


def _open_weights(root: Path) -> Mapping[str, Stored]:
    path = next((root / name for name in WEIGHTS if (root / name).is_file()), None)
    if path is None:
        raise ConversionError(f"reading {root}: there is neither {' nor '.join(WEIGHTS)}; an adapter has one")
    if path.suffix == ".safetensors":
        return open_safetensors(path).tensors
    from puna.formats.torch_pickle import open_torch

    return open_torch(path).tensors


def _sort(root: Path, name: str, tensor: Stored, modules: dict[str, Module], whole: dict[str, Stored]) -> None:
    if len(name) > MAX_NAME or not tensor.dtype.is_float:
        raise ConversionError(f"reading {root}: '{name[:80]}' is of type {tensor.dtype}; floating-point types work")
    short = name.removeprefix("base_model.model.")
    match = _PART.fullmatch(short)
    if match and not match["bias"]:
        module = _WRAPPERS.sub("", match["module"])
        parts = modules.setdefault(module, Module(module)).parts
        if match["part"] in parts:
            raise ConversionError(f"reading {root}: '{name}' is there twice; an adapter with one name works")
        parts[match["part"]] = tensor
    elif ".original_module." not in short:
        if match or not short.endswith((".weight", ".bias")) or "lora_" in short:
            raise ConversionError(f"reading {root}: tensor '{name}' is not understood; those of a LoRA are")
        whole[short] = tensor


class _Names:
    """GGUF names of an adapter's tensors; each may come once."""

    def __init__(self, root: Path, arch: Architecture) -> None:
        self._root = root
        self._arch = arch
        self._seen: dict[Target, str] = {}

    def of(self, source: str) -> tuple[Target, ...]:
        """What it is in GGUF; ConversionError where the base has nothing of that name, or two sources share one."""
        short = _WRAPPERS.sub("", source)
        found: tuple[Target, ...] = ()
        for spelled in (short, f"model.{short}", short.removeprefix("model.")):
            with suppress(ConversionError):
                found = self._arch.targets(spelled)
                break
        if not found:
            raise ConversionError(
                f"reading {self._root}: it changes '{source}', which the base ({self._arch.name}) does not have; "
                "an adapter made for this base works"
            )
        for target in found:
            other = self._seen.setdefault(target, source)
            if other != source and ".base_layer." not in source + other:
                raise ConversionError(f"reading {self._root}: '{other}' and '{source}' both become '{target.name}'")
        return found


def _scale(root: Path, config: Mapping[str, Any], found: Module) -> float:
    """alpha / rank, or with rsLoRA alpha / sqrt(rank); alpha may be said for some modules."""
    a = found.parts.get("lora_A", found.parts.get("lora_embedding_A"))
    rank = a.shape[0] if a is not None and a.shape else 0
    said = _matching(root, config, "rank_pattern", found.name, config.get("r"))
    alpha = _matching(root, config, "alpha_pattern", found.name, config.get("lora_alpha"))
    if type(alpha) not in (int, float) or not isfinite(alpha) or not alpha:
        raise ConversionError(f"reading {root}: lora_alpha of '{found.name}' is {alpha!r}; a number but 0 works")
    if not rank or said != rank:
        raise ConversionError(f"reading {root}: '{found.name}' has rank {rank}, {CONFIG} says r = {said}")
    return float(alpha / sqrt(rank) if config.get("use_rslora") else alpha / rank)


def _matching(root: Path, config: Mapping[str, Any], key: str, module: str, default: Any) -> Any:
    """The value for the first of a pattern's keys that is the end of the module's name, as PEFT matches them."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise ConversionError(f"reading {root}: '{key}' is {str(patterns)[:80]!r}; a mapping works")
    for pattern, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise ConversionError(f"reading {root}: '{key}' has {pattern[:80]!r}, no pattern: {error}") from error
    return default
