"""Conversion: a checkpoint directory or a GGUF file to one GGUF file, in the types asked for, streaming.

What each tensor becomes is decided from headers before anything is written; the report says it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from errno import ENOSPC
from functools import partial
from math import prod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.create.checkpoint import open_checkpoint
from puna.create.tensors import Converted
from puna.dtypes import DTYPES, DType, Stored
from puna.errors import ConversionError
from puna.formats.file_types import FILE_TYPE_IDS
from puna.formats.gguf import open_gguf
from puna.formats.gguf_writer import write_gguf
from puna.quants.recipe import file_type, plan_types

if TYPE_CHECKING:
    from puna.store.blobs import Progress

__all__ = ["ConversionReport", "TensorReport", "convert", "open_checkpoint"]


@dataclass(frozen=True, slots=True)
class TensorReport:
    """What became of one tensor."""

    name: str
    source: str
    shape: tuple[int, ...]
    source_dtype: str
    dtype: str
    transform: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion did, or with `dry_run` would do; sizes in bytes."""

    source: str
    out: str
    architecture: str
    parameters: int
    nbytes: int
    seconds: float
    tensors: tuple[TensorReport, ...]
    left_out: tuple[str, ...] = ()  # tensors of the source that the file does not need

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON's terms."""
        return asdict(self)


def convert(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    dtype: str = "auto",
    quantize: str | None = None,
    recipe: object = None,
    imatrix: object = None,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> ConversionReport:
    """Write `source`, a checkpoint directory or a GGUF file, as one GGUF file that appears only when complete.

    `dtype`: what matrices become: auto (as they are), f32, f16, bf16. `quantize`: a type or mix such as Q8_0 or Q4_K_M.
    Raises ConversionError, ModelError, FormatError.
    """
    if recipe is not None or imatrix is not None:
        raise ConversionError("converting: recipe and imatrix are not supported yet; quantize='Q4_K_M' is")
    begun, path = time.monotonic(), Path(source)
    metadata, written, tensors, left_out = _open_source(path, dtype)
    if quantize:
        mix = file_type(quantize)
        tensors = _quantized(metadata, tensors, mix)
        written = {**written, "general.file_type": FILE_TYPE_IDS[mix], "general.quantization_version": 2}
    reports = tuple(_report(name, tensor) for name, tensor in tensors.items())
    total = sum(r.nbytes for r in reports)
    if not dry_run:
        _write(Path(out), written, tensors, total, on_progress)
    return ConversionReport(
        source=str(path),
        out=str(out),
        architecture=str(metadata["general.architecture"]),
        parameters=sum(prod(t.shape) for t in tensors.values()),
        nbytes=total,
        seconds=time.monotonic() - begun,
        tensors=reports,
        left_out=left_out,
    )


_Source = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Stored], tuple[str, ...]]


def _open_source(path: Path, dtype: str) -> _Source:
    """Metadata to read, the same to write (of a GGUF file: its exact bytes), tensors, and names of those left out."""
    if path.is_dir():
        checkpoint = open_checkpoint(path, dtype)
        return checkpoint.metadata, checkpoint.metadata, checkpoint.tensors, checkpoint.left_out
    if dtype != "auto":
        raise ConversionError(f"converting {path}: dtype is for checkpoint directories; for GGUF use quantize='F16'")
    gguf = open_gguf(path)
    if "general.architecture" not in gguf.metadata:
        raise ConversionError(f"converting {path}: the file has no 'general.architecture'")
    return gguf.metadata, gguf.metadata.exact(), gguf.tensors, ()


def _write(
    out: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Stored], total: int, progress: Progress | None
) -> None:
    try:
        free = shutil.disk_usage(out.parent).free
        if free < total:
            raise OSError(ENOSPC, f"{total:,} bytes are needed, {free:,} are free")
        write_gguf(out, metadata, _stream(tensors, total, progress))
    except OSError as error:
        raise ConversionError(f"writing {out}: {error.strerror or error}; nothing was kept") from error


def _quantized(metadata: Mapping[str, Any], tensors: Mapping[str, Stored], mix: str) -> dict[str, Stored]:
    """The same tensors in the types that a mix gives them; each is quantized from its source, once."""
    shapes = {name: (t.shape, t.dtype.name) for name, t in tensors.items()}
    types = plan_types(shapes, mix, arch=str(metadata["general.architecture"]), metadata=metadata)
    return {name: _retyped(name, tensor, DTYPES[types[name]]) for name, tensor in tensors.items()}


def _retyped(name: str, tensor: Stored, wanted: DType) -> Stored:
    if wanted is tensor.dtype:
        return tensor
    return (
        replace(tensor, dtype=wanted) if isinstance(tensor, Converted) else Converted(name, (tensor,), (name,), wanted)
    )


def _report(name: str, tensor: Stored) -> TensorReport:
    origin = tensor if isinstance(tensor, Converted) else None
    return TensorReport(
        name=name,
        source=origin.source_name if origin else name,
        shape=tensor.shape,
        source_dtype=(origin.source_dtype if origin else tensor.dtype).name,
        dtype=tensor.dtype.name,
        transform=", ".join(map(str, origin.transforms)) if origin else "",
        nbytes=tensor.dtype.nbytes(tensor.shape),
    )


def _stream(
    tensors: Mapping[str, Stored], total: int, progress: Progress | None
) -> Iterator[tuple[str, tuple[int, ...], DType, Callable[[], Iterator[Any]]]]:
    """Each tensor with a function that gives its bytes when its turn comes, and reports them as they go."""
    done = 0

    def chunks(name: str, tensor: Stored) -> Iterator[Any]:
        nonlocal done
        for chunk in tensor.chunks() if isinstance(tensor, Converted) else [tensor.raw]:
            yield chunk
            done += chunk.nbytes
            if progress:
                progress(name, done, total)

    for name, tensor in tensors.items():
        yield name, tensor.shape, tensor.dtype, partial(chunks, name, tensor)
