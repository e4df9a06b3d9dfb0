"""Writes PEFT adapters as GGUF adapters, as `puna.formats.lora` draws them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from os import PathLike
from pathlib import Path

import numpy as np

from puna.create.adapters.base import Base, find_base, open_adapter, open_base
from puna.create.adapters.pairs import plain
from puna.create.checkpoint import DTYPE_CHOICES
from puna.create.computed import Computed
from puna.create.convert import ConversionReport, TensorReport
from puna.create.finite import first_not_finite
from puna.dtypes import F32, DType, Stored
from puna.errors import ConversionError
from puna.formats.file_types import FILE_TYPE_IDS
from puna.formats.gguf_writer import reporting, write_gguf
from puna.formats.lora import Adapter, Pair
from puna.store.blobs import Progress, silent


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
    for name, tensor in tensors.items():
        _check_finite(path, name, tensor)
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
    write_gguf(out, metadata, reporting(tensors, on_progress or silent))
    reports = tuple(_report(name, tensor) for name, tensor in tensors.items())
    return ConversionReport(
        source=str(path),
        out=str(out),
        architecture=adapter.arch,
        parameters=sum(prod(tensor.shape) for tensor in tensors.values()),
        nbytes=sum(report.nbytes for report in reports),
        seconds=time.monotonic() - begun,
        tensors=reports,
    )


def _report(name: str, tensor: Stored) -> TensorReport:
    dtype = tensor.dtype
    return TensorReport(name, name, tensor.shape, dtype.name, dtype.name, "", dtype.nbytes(tensor.shape))


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


def _check_finite(path: Path, name: str, tensor: Stored) -> None:
    """ConversionError where a value is NaN or infinite, or would be in its type."""
    if (bad := first_not_finite(tensor.raw, tensor.dtype)) is not None:
        where = ", ".join(str(int(i)) for i in np.unravel_index(bad, tensor.shape))
        raise ConversionError(
            f"converting {path}: '{name}' is not finite at ({where}) as {tensor.dtype}; "
            "F32 may hold it, or the adapter is damaged"
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
