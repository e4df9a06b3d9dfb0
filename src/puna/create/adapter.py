"""Adapters and their bases: finds the base, opens an adapter of either form against it, and writes GGUF adapters.

What a GGUF adapter looks like is drawn in `puna.formats.lora`, a PEFT directory in `puna.create.peft`.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from puna import arch as archs
from puna.arch.base import Architecture
from puna.create.checkpoint import DTYPE_CHOICES, open_checkpoint, read_config
from puna.create.convert import ConversionReport, TensorReport
from puna.create.peft import Computed, open_peft, plain, read_adapter_config
from puna.create.prequantized import plain_config
from puna.dtypes import F32, DType, Stored
from puna.errors import ConversionError, InvalidName, ModelNotFound
from puna.formats.file_types import FILE_TYPE_IDS
from puna.formats.gguf import open_gguf
from puna.formats.gguf_writer import write_gguf
from puna.formats.lora import Adapter, Pair, check_fits, open_lora

if TYPE_CHECKING:
    from puna.store.blobs import Progress

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.gguf")


@dataclass(frozen=True)
class Base:
    """What an adapter is made for; `tensors` is empty where there is only a config.json."""

    source: Path
    arch: Architecture
    hparams: Any
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, Any]


def open_base(ref: str | PathLike[str]) -> Base:
    """Open a base: a checkpoint directory (config.json is enough), a GGUF file, or a name in the store.

    ModelNotFound where there is none; ConversionError, ModelError or FormatError where it is not understood.
    """
    path = _located(ref)
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if (path / "config.json").is_file() or len(ggufs) != 1:
            return _directory(path)
        path = ggufs[0]
    gguf = open_gguf(path)
    arch = archs.find(str(gguf.metadata.get("general.architecture")))
    return Base(path, arch, arch.hparams.from_gguf(arch.name, gguf.metadata), gguf.tensors, gguf.metadata)


def _directory(path: Path) -> Base:
    if any(any(path.glob(pattern)) for pattern in _WEIGHTS):
        checkpoint = open_checkpoint(path)
        return Base(path, checkpoint.arch, checkpoint.hparams, checkpoint.tensors, checkpoint.metadata)
    said = read_config(path)
    arch = archs.find_hf(str(next(iter(said.get("architectures") or ["(none)"]))))
    return Base(path, arch, arch.hparams_from_hf(arch.understood(plain_config(said))), {}, {})


def _located(ref: str | PathLike[str]) -> Path:
    """A name in the store comes before a file of that name, as for every command."""
    from puna.store.sources import find_model

    text, path = fspath(ref), Path(ref).expanduser()
    if not isinstance(ref, PathLike) and not text.startswith((".", "/", "~")) and not text.endswith(".gguf"):
        try:
            return find_model(text)[0].model_path(text)
        except (ModelNotFound, InvalidName):
            pass
    if path.exists():
        return path
    raise ModelNotFound(f"opening the base {text}: it is no directory, no GGUF file and no name in the store")


def find_base(adapter: str | PathLike[str]) -> Path:
    """The base that a PEFT adapter names, if it is a directory here or in Hugging Face's cache; else ModelNotFound."""
    said = read_adapter_config(Path(adapter)).get("base_model_name_or_path")
    text = said if isinstance(said, str) else ""
    if text and Path(text).is_dir():
        return Path(text)
    if _REPOSITORY.fullmatch(text) and (cached := _cached(text)):
        return cached
    raise ModelNotFound(
        f"opening {Path(adapter)}: its base {text!r} is neither a directory nor in Hugging Face's cache; "
        "name the base (--base): a directory, a GGUF file or a name in the store"
    )


def _cached(repository: str) -> Path | None:
    """The newest snapshot of a repository in Hugging Face's cache."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    folder = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub") / f"models--{repository.replace('/', '--')}"
    snapshots = [path for path in folder.glob("snapshots/*") if (path / "config.json").is_file()]
    return max(snapshots, key=lambda path: path.stat().st_mtime, default=None)


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


def convert_adapter(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    base: str | PathLike[str] | Base | None = None,
    dtype: str = "auto",
    on_progress: Progress | None = None,
) -> ConversionReport:
    """Write a PEFT adapter as a GGUF adapter for its `base`, by default the one that it names.

    `dtype`: auto (as they are), f32, f16, bf16. Scales other than alpha / rank are in alpha where they are all alike,
    else in B. ConversionError for what a GGUF adapter cannot hold: DoRA, and whole tensors other than norms.
    """
    begun, path = time.monotonic(), Path(source)
    if dtype not in DTYPE_CHOICES:
        raise ConversionError(f"converting {path}: dtype {dtype!r} is unknown; known: {', '.join(DTYPE_CHOICES)}")
    base = base if isinstance(base, Base) else open_base(find_base(path) if base is None else base)
    adapter = open_adapter(path, base)
    _check_writable(adapter)
    alpha = _alpha(adapter)
    tensors = dict(_tensors(adapter, alpha, DTYPE_CHOICES[dtype]))
    types = Counter(tensor.dtype.name for tensor in tensors.values())
    metadata = {
        "general.architecture": adapter.arch,
        "general.type": "adapter",
        "adapter.type": "lora",
        "general.name": path.resolve().name,
        "general.quantization_version": 2,
        "general.file_type": FILE_TYPE_IDS[types.most_common(1)[0][0]],
        "adapter.lora.alpha": np.float32(alpha),
    }
    total, done = sum(t.dtype.nbytes(t.shape) for t in tensors.values()), 0

    def entries() -> Iterator[tuple[str, tuple[int, ...], DType, Any]]:
        nonlocal done
        for name, tensor in tensors.items():
            yield name, tensor.shape, tensor.dtype, lambda tensor=tensor: tensor.raw
            done += tensor.dtype.nbytes(tensor.shape)
            if on_progress:
                on_progress(name, done, total)

    write_gguf(out, metadata, entries())
    return ConversionReport(
        source=str(path),
        out=str(out),
        architecture=adapter.arch,
        parameters=sum(prod(t.shape) for t in tensors.values()),
        nbytes=total,
        seconds=time.monotonic() - begun,
        tensors=tuple(
            TensorReport(n, n, t.shape, t.dtype.name, t.dtype.name, "", t.dtype.nbytes(t.shape))
            for n, t in tensors.items()
        ),
    )


def _check_writable(adapter: Adapter) -> None:
    name = adapter.source
    if any(pair.magnitude is not None for pair in adapter.pairs.values()):
        raise ConversionError(
            f"converting {name}: a GGUF adapter cannot hold DoRA; `puna merge` folds it into the base"
        )
    for tensor in adapter.whole:
        if not tensor.endswith("_norm.weight"):
            raise ConversionError(
                f"converting {name}: it replaces '{tensor}' (modules_to_save, or a trained bias), which a GGUF adapter "
                "cannot hold; `puna merge` folds it into the base"
            )


def _alpha(adapter: Adapter) -> float:
    """The file's one alpha: what most pairs' scales are, times their rank."""
    alphas = Counter(round(pair.scale * pair.rank, 9) for pair in adapter.pairs.values())
    return alphas.most_common(1)[0][0] if alphas else 0.0


def _tensors(adapter: Adapter, alpha: float, wanted: DType | None) -> Iterator[tuple[str, Stored]]:
    for name, pair in adapter.pairs.items():
        yield f"{name}.lora_a", _typed(pair.a, wanted)
        yield f"{name}.lora_b", _typed(_scaled(pair, alpha), wanted)
    for name, tensor in adapter.whole.items():
        yield name, _typed(tensor, F32)


def _scaled(pair: Pair, alpha: float) -> Stored:
    """B, multiplied by what the file's alpha does not say."""
    factor = pair.scale * pair.rank / alpha
    if abs(factor - 1) < 1e-6:
        return pair.b
    return Computed(pair.b.shape, F32, lambda: pair.b.numpy() * np.float32(factor))


def _typed(tensor: Stored, wanted: DType | None) -> Stored:
    dtype = wanted or plain(tensor.dtype)
    if dtype is tensor.dtype:
        return tensor
    return replace(tensor, dtype=dtype) if isinstance(tensor, Computed) else Computed(tensor.shape, dtype, tensor.numpy)
