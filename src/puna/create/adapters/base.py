"""Adapters and their bases: finds the base, and opens an adapter of either form against it.

What a GGUF adapter looks like is drawn in `puna.formats.lora`, a PEFT directory in `puna.create.adapters.peft`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from puna import arch as archs
from puna.arch.base import Architecture
from puna.arch.binding import bind, outputs_of
from puna.create.adapters.peft import open_peft, read_adapter_config
from puna.create.config import class_of, read_config
from puna.create.original import Original, open_original
from puna.create.prequantized import plain_config
from puna.create.references import local_path
from puna.create.source import has_no_weights
from puna.dtypes import Stored
from puna.errors import InvalidName, ModelError, ModelNotFound
from puna.formats.lora import Adapter, check_fits, open_lora, place_of
from puna.graph import adapt, topological
from puna.store.hub_ref import cache_root, find_snapshot
from puna.store.reference import is_path
from puna.store.sources import find_model

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")


@dataclass(frozen=True)
class Base:
    """What an adapter is made for; `tensors` is empty where there is only a config.json."""

    source: Path
    arch: Architecture
    hparams: Any
    tensors: Mapping[str, Stored]

    @classmethod
    def of(cls, original: Original) -> Base:
        """An open checkpoint or GGUF file as a base."""
        arch = archs.find(original.arch)
        return cls(original.path, arch, arch.hparams.from_gguf(arch.name, original.values), original.tensors)


def open_base(ref: str | PathLike[str]) -> Base:
    """Open a base: a checkpoint directory (config.json is enough), a GGUF file, or a name in the store.

    ModelNotFound where there is none; ConversionError, ModelError or FormatError where it is not understood.
    """
    path = local_path(ref)
    if path.is_dir() and has_no_weights(path):
        said = read_config(path)
        arch = archs.find_hf(class_of(path, said), said)
        return Base(path, arch, arch.hparams_from_hf(arch.understood(plain_config(said))), {})
    return Base.of(open_original(path, "auto"))


def stored_adapters(ref: str | PathLike[str]) -> list[Path]:
    """The adapters of a model in the store; none of what is no name."""
    if is_path(ref):
        return []
    try:
        store, manifest = find_model(fspath(ref))
    except (ModelNotFound, InvalidName):
        return []
    return [store.blob_path(layer.digest) for layer in manifest.all("adapter")]


def find_base(adapter: str | PathLike[str]) -> Path:
    """The base that a PEFT adapter names, if it is a directory here or in Hugging Face's cache; else ModelNotFound."""
    said = read_adapter_config(Path(adapter)).get("base_model_name_or_path")
    text = said if isinstance(said, str) else ""
    if text and (Path(text) / "config.json").is_file():
        return Path(text)
    if _REPOSITORY.fullmatch(text) and (cached := find_snapshot(cache_root() / f"models--{text.replace('/', '--')}")):
        return cached
    raise ModelNotFound(
        f"opening {Path(adapter)}: its base {text!r} is neither a directory nor in Hugging Face's cache; "
        "name the base (--base): a directory, a GGUF file or a name in the store"
    )


def open_adapter(path: str | PathLike[str], base: Base) -> Adapter:
    """Open a PEFT directory or a GGUF adapter, and check that it fits `base`.

    ConversionError, FormatError or ModelError names what is not understood or does not fit.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ModelNotFound(f"opening the adapter {path}: there is no such file or directory")
    if path.is_dir():
        adapter = open_peft(path, base.arch, base.hparams, base.tensors)
    else:
        adapter = open_lora(path)
    if base.tensors:
        check_fits(adapter, base.arch.name, base.tensors)
    return adapter


def check_runs(adapter: Adapter, base: Base) -> None:
    """ModelError names a change that cannot be added while a model runs: DoRA, or one of a weight only copied or added.

    It builds the base's graph, which takes headers only.
    """
    outputs = outputs_of(base.arch, base.hparams, bind(base.arch, base.hparams, base.tensors))
    read = {adapt.place_of(node) for node in topological(outputs)}
    for name, pair in adapter.pairs.items():
        what = f"adapter {adapter.source.name}: its change of '{name}'"
        if pair.magnitude is not None:
            raise ModelError(f"{what} is a DoRA, which is no sum; `puna merge` folds it into the base")
        if (pair.op, place_of(name, base.tensors)) not in read:
            raise ModelError(f"{what} cannot be added while the model runs; `puna merge` folds it into the base")
