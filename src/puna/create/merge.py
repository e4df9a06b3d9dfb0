"""Folds adapters into their base: W + scale * B A in float32, a band of rows at a time, in W's own type or as asked.

What is tied stays as it was trained: where only the embedding or only the output changes, the output gets a tensor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from puna import quants
from puna.create.adapter import Base, open_adapter, open_base, stored_adapters
from puna.create.convert import ConversionReport, TensorReport
from puna.create.finite import first_not_finite
from puna.create.tensors import BAND, Bytes, Converted, Piece, Probe, pieces
from puna.create.transforms import apply, moves_rows
from puna.dtypes import DTYPES, F16, F32, DType, Stored
from puna.errors import ConversionError
from puna.formats.file_types import FILE_TYPE_IDS
from puna.formats.gguf_writer import write_gguf
from puna.formats.lora import LOOKUP, OUTPUT, Adapter, Pair
from puna.formats.mapped import MappedTensor, to_values
from puna.quants.recipe import file_type, plan_types

if TYPE_CHECKING:
    from puna.store.blobs import Progress

Array = NDArray[Any]
Change = tuple[Pair, float]
"""A pair, and a factor for it."""


@dataclass(frozen=True)
class Merged(Converted):
    """A tensor of the base with `changes` added, in order."""

    changes: tuple[Change, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Never: values change."""
        return False

    def pieces(self, probe: Probe | None = None) -> Iterator[Piece]:
        """The bytes of the output; ConversionError where a value is not finite, or has no place in the type."""
        size = self.dtype.row_bytes(self.shape[-1])
        deltas = cache(lambda: [_Delta(pair, factor) for pair, factor in self.changes])  # made when the first is asked
        for first, count, make, release in self._bands():
            yield Piece(first * size, count * size, partial(self._made, first, make, deltas, probe), release)

    def _bands(self) -> Iterator[tuple[int, int, Callable[[], Array], Callable[[], None]]]:
        """The base's rows, flat over leading axes: the first, how many, their float32 values, and what lets go."""
        columns = self.shape[-1]
        (part, *more) = self.parts
        if not more and isinstance(part, MappedTensor) and len(part.shape) == 2 and moves_rows(self.transforms):
            rows = apply(self.transforms, np.arange(part.shape[0]))
            for start in range(0, len(rows), max(1, BAND // columns)):
                band = rows[start : start + max(1, BAND // columns)]
                yield start, len(band), partial(_values, part, band), part.release
            return
        plain = Converted(self.name, self.parts, self.part_names, F32, self.transforms, self.stacked)
        for piece in plain.pieces() if not plain.unchanged else [Piece(0, prod(self.shape) * 4, lambda: plain.raw)]:
            make = lambda piece=piece: piece.make().view("<f4").reshape(-1, columns)  # noqa: E731
            yield piece.start // (4 * columns), piece.nbytes // (4 * columns), make, piece.release

    def _made(
        self, first: int, make: Callable[[], Array], deltas: Callable[[], list[_Delta]], probe: Probe | None
    ) -> Bytes:
        values = np.array(make(), np.float32)
        for delta in deltas():
            delta.add(values, first)
        if (bad := first_not_finite(values.reshape(-1).view(np.uint8), F32)) is not None:
            raise ConversionError(
                f"merging '{self.name}': row {first + bad // values.shape[1]} becomes {values.reshape(-1)[bad]:g}; "
                "the adapter or the base is damaged: fetch it again"
            )
        return self._stored(values, first, probe)

    def _stored(self, values: Array, first: int, probe: Probe | None) -> Bytes:
        importance = self.importance
        if importance is not None and importance.ndim == 2:
            importance = importance[first // self.shape[-2]]
        try:
            encoded: Bytes = quants.quantize(values, self.dtype.name, importance).reshape(-1).view(np.uint8)
        except ConversionError as error:
            raise ConversionError(f"merging '{self.name}': {error}") from error
        if self.dtype is F16 and first_not_finite(encoded, F16) is not None:
            raise ConversionError(
                f"merging '{self.name}': F16 cannot hold {np.abs(values).max():g}; BF16 or F32 would work"
            )
        if probe:
            probe(values, encoded)
        return encoded


def _values(part: MappedTensor, rows: Array) -> Array:
    size = part.dtype.row_bytes(part.shape[-1])
    stored = part.raw.reshape(part.shape[0], size)[rows]
    return to_values(stored.reshape(-1), part.dtype, (len(rows), part.shape[-1]))


class _Delta:
    """One change, its matrices in float32."""

    def __init__(self, pair: Pair, factor: float) -> None:
        left, right = pair.factors()
        self._left = left if left.ndim == 3 else left[None]
        self._right = (right if right.ndim == 3 else right[None]) * np.float32(factor)
        self._magnitude = None if pair.magnitude is None else pair.magnitude.numpy()

    def add(self, values: Array, first: int) -> None:
        """Adds it to rows from `first` on, in place; rows of a stack are counted through."""
        height, stop = self._left.shape[1], first + len(values)
        for i in range(first // height, -(-stop // height)):
            start, end = max(first, i * height), min(stop, (i + 1) * height)
            rows = slice(start - i * height, end - i * height)
            values[start - first : end - first] += self._left[i, rows] @ self._right[i]
        if self._magnitude is not None:
            lengths = np.linalg.norm(values, axis=1)
            values *= (self._magnitude[first:stop] / lengths)[:, None]


def merge(
    base: str | PathLike[str],
    adapters: Sequence[str | PathLike[str] | tuple[str | PathLike[str], float]],
    out: str | PathLike[str],
    *,
    dtype: str = "auto",
    quantize: str | None = None,
    on_progress: Progress | None = None,
) -> ConversionReport:
    """Write `base` with `adapters` folded in as one GGUF file, which appears only when complete.

    `base`: a checkpoint directory, a GGUF file or a name in the store, whose own adapters come first. `adapters`: PEFT
    directories or GGUF adapters, each a path or a path and a factor. `dtype` (directories only) and `quantize` as for
    `puna.convert`. ConversionError, ModelError or FormatError names what does not fit.
    """
    begun, opened = time.monotonic(), open_base(base, dtype)
    if not opened.tensors:
        raise ConversionError(
            f"merging {opened.source}: no weights are there; a directory with weights, or GGUF, works"
        )
    named = [(path, 1.0) for path in stored_adapters(base)]
    named += [(Path(a), 1.0) if isinstance(a, str | PathLike) else (Path(a[0]), float(a[1])) for a in adapters]
    if not named:
        raise ConversionError(f"merging {fspath(base)}: there is no adapter; a GGUF adapter or a PEFT directory works")
    tensors = merged_tensors(opened, [(open_adapter(path, opened), factor) for path, factor in named])
    metadata = dict(opened.exact)
    if "general.parameter_count" in metadata:
        metadata["general.parameter_count"] = sum(prod(tensor.shape) for tensor in tensors.values())
    if quantize:
        tensors, mix = _quantized(opened, tensors, quantize)
        metadata |= {"general.file_type": FILE_TYPE_IDS[mix], "general.quantization_version": 2}
    reports = tuple(_report(name, tensor) for name, tensor in tensors.items())
    total = sum(report.nbytes for report in reports)
    write_gguf(out, metadata, _stream(tensors, total, on_progress))
    return ConversionReport(
        source=str(opened.source),
        out=str(out),
        architecture=opened.arch.name,
        parameters=sum(prod(tensor.shape) for tensor in tensors.values()),
        nbytes=total,
        seconds=time.monotonic() - begun,
        tensors=reports,
    )


def _quantized(base: Base, tensors: Mapping[str, Stored], quantize: str) -> tuple[dict[str, Stored], str]:
    mix = file_type(quantize)
    shapes = {name: (t.shape, t.dtype.name) for name, t in tensors.items()}
    types = plan_types(shapes, mix, arch=base.arch.name, metadata=base.metadata)
    return {name: _retyped(name, tensor, DTYPES[types[name]]) for name, tensor in tensors.items()}, mix


def _retyped(name: str, tensor: Stored, wanted: DType) -> Stored:
    if wanted is tensor.dtype:
        return tensor
    if isinstance(tensor, Converted):
        return replace(tensor, dtype=wanted)
    return Converted(name, (tensor,), (name,), wanted)


def _report(name: str, tensor: Stored) -> TensorReport:
    return TensorReport(
        name=name,
        source=tensor.source_name if isinstance(tensor, Converted) else name,
        shape=tuple(tensor.shape),
        source_dtype=(tensor.source_dtype if isinstance(tensor, Converted) else tensor.dtype).name,
        dtype=tensor.dtype.name,
        transform="merge" if isinstance(tensor, Merged) else "",
        nbytes=tensor.dtype.nbytes(tensor.shape),
    )


def _stream(
    tensors: Mapping[str, Stored], total: int, progress: Progress | None
) -> Iterator[tuple[str, tuple[int, ...], DType, Callable[[], Iterator[Bytes]]]]:
    done = 0

    def chunks(name: str, tensor: Stored) -> Iterator[Bytes]:
        nonlocal done
        for piece in pieces(tensor):
            yield piece.make()
            piece.release()
            done += piece.nbytes
            if progress:
                progress(name, done, total)

    for name, tensor in tensors.items():
        yield name, tensor.shape, tensor.dtype, partial(chunks, name, tensor)


def merged_tensors(base: Base, adapters: Sequence[tuple[Adapter, float]]) -> dict[str, Stored]:
    """The base's tensors with every adapter folded in, by name; nothing is computed before it is read."""
    tensors = dict(base.tensors)
    changes: dict[str, list[Change]] = {}
    for adapter, factor in adapters:
        for name, whole in adapter.whole.items():
            tensors[name] = Converted(name, (whole,), (f"{adapter.source.name}: {name}",), _own(name, tensors, whole))
        for name, pair in adapter.pairs.items():
            if pair.magnitude is not None and factor != 1:
                raise ConversionError(f"merging {adapter.source}: it is a DoRA, which has no factor; 1 works")
            changes.setdefault(name, []).append((pair, factor))
    if OUTPUT not in tensors and {LOOKUP, OUTPUT} & changes.keys():
        tensors[OUTPUT] = _named(OUTPUT, tensors[LOOKUP])
    return tensors | {name: _merged(name, tensors[name], found) for name, found in changes.items()}


def _named(name: str, tensor: Stored) -> Stored:
    return replace(tensor, name=name) if isinstance(tensor, Converted) else tensor


def _own(name: str, tensors: Mapping[str, Stored], whole: Stored) -> Any:
    return tensors[name].dtype if name in tensors else whole.dtype


def _merged(name: str, source: Stored, changes: Sequence[Change]) -> Merged:
    if isinstance(source, Converted):
        kept = {each.name: getattr(source, each.name) for each in fields(Converted)}
        return Merged(**kept, changes=tuple(changes))
    return Merged(name, (source,), (name,), source.dtype, changes=tuple(changes))
