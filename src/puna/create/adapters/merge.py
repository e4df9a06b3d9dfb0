"""Folds adapters into their base: W + scale * B A in float32, a band of rows at a time, in W's own type or as asked.

What is tied stays as it was trained: where only the embedding or only the output changes, the output gets a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import quants
from puna.create.adapters.base import Base, open_adapter, stored_adapters
from puna.create.convert import ConversionReport, convert
from puna.create.finite import first_not_finite
from puna.create.original import open_original
from puna.create.references import local_path
from puna.create.tensors import BAND, Bytes, Converted, Piece, Probe
from puna.create.transforms import apply, moves_rows
from puna.dtypes import F16, F32, Stored
from puna.errors import ConversionError
from puna.formats.lora import LOOKUP, OUTPUT, Adapter, Pair
from puna.formats.mapped import MappedTensor, to_values

Array = NDArray[Any]
Change = tuple[Pair, float, str]
"""A pair, a factor for it, and the name of its adapter."""


@dataclass(frozen=True)
class Merged(Converted):
    """A tensor of the base with `changes` added, in order."""

    changes: tuple[Change, ...] = ()

    @property
    def source_name(self) -> str:
        """The base's tensor and the adapters."""
        return " + ".join([super().source_name, *(name for *_, name in self.changes)])

    @property
    def unchanged(self) -> bool:
        """Never: values change."""
        return False

    def pieces(self, probe: Probe | None = None) -> Iterator[Piece]:
        """The bytes of the output; ConversionError where a value is not finite, or has no place in the type."""
        size = self.dtype.row_bytes(self.shape[-1])
        deltas = cache(lambda: [_Delta(pair, factor) for pair, factor, _ in self.changes])
        for first, count, make, release in self._bands():
            yield Piece(first * size, count * size, partial(self._made, first, make, deltas, probe), release)

    def _bands(self) -> Iterator[tuple[int, int, Callable[[], Array], Callable[[], None]]]:
        """The base's rows, flat over leading axes: the first, how many, their float32 values, and what lets go."""
        columns = self.shape[-1]
        if moves_rows(self.transforms) and all(isinstance(p, MappedTensor) and len(p.shape) == 2 for p in self.parts):
            yield from self._rows(columns)
            return
        plain = Converted(self.name, self.parts, self.part_names, F32, self.transforms, self.stacked)
        for piece in plain.pieces() if not plain.unchanged else [Piece(0, prod(self.shape) * 4, lambda: plain.raw)]:
            make = lambda piece=piece: piece.make().view("<f4").reshape(-1, columns)  # noqa: E731
            yield piece.start // (4 * columns), piece.nbytes // (4 * columns), make, piece.release

    def _rows(self, columns: int) -> Iterator[tuple[int, int, Callable[[], Array], Callable[[], None]]]:
        """Bands of matrices whose rows are found one by one."""
        first, step = 0, max(1, BAND // columns)
        for part in self.parts:
            size = part.dtype.row_bytes(columns)
            rows = apply(self.transforms, np.arange(part.shape[0]))
            for start in range(0, len(rows), step):
                band = rows[start : start + step]
                read = int(band.min()) * size, (int(band.max()) + 1) * size
                yield first + start, len(band), partial(_values, part, band), partial(_release, part, *read)
            first += len(rows)

    def _made(
        self, first: int, make: Callable[[], Array], deltas: Callable[[], list[_Delta]], probe: Probe | None
    ) -> Bytes:
        values = np.array(make(), np.float32)
        with np.errstate(all="ignore"):  # what is not finite is told below
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


def _release(part: Stored, start: int, stop: int) -> None:
    if isinstance(part, MappedTensor):
        part.release(start, stop)


def _values(part: Stored, rows: Array) -> Array:
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
    metadata: Mapping[str, Any] | None = None,
    **wanted: Any,
) -> ConversionReport:
    """Write `base` with `adapters` folded in as GGUF, which appears only when complete.

    `base`: a checkpoint directory, a GGUF file or a name in the store, whose own adapters come first. `adapters`: PEFT
    directories or GGUF adapters, each a path or a path and a factor. `dtype` (directories only), `metadata` and
    `wanted` (quantize, recipe, imatrix, shard_size, threads, dry_run, on_progress ...) are as for `puna.convert`.
    ConversionError, ModelError or FormatError names what does not fit.
    """
    original = open_original(local_path(base), dtype)
    named = [(path, 1.0) for path in stored_adapters(base)]
    named += [(Path(a), 1.0) if isinstance(a, str | PathLike) else (Path(a[0]), float(a[1])) for a in adapters]
    if not named:
        raise ConversionError(f"merging {fspath(base)}: there is no adapter; a GGUF adapter or a PEFT directory works")
    against = Base.of(original)
    opened = [(open_adapter(path, against), factor) for path, factor in named]
    tensors = merged_tensors(original.tensors, opened)
    said = ", ".join(path.name if factor == 1 else f"{path.name} * {factor:g}" for path, factor in named)
    keys: dict[str, Any] = {"puna.merged": said}
    if "general.parameter_count" in original.metadata:
        keys["general.parameter_count"] = sum(prod(tensor.shape) for tensor in tensors.values())
    return convert(replace(original, tensors=tensors), out, metadata={**keys, **(metadata or {})}, **wanted)


def merged_tensors(base: Mapping[str, Stored], adapters: Sequence[tuple[Adapter, float]]) -> dict[str, Stored]:
    """The tensors of a base with every adapter folded in, by name; nothing is computed before it is read."""
    tensors = dict(base)
    changes: dict[str, list[Change]] = {}
    for adapter, factor in adapters:
        for name, whole in adapter.whole.items():
            tensors[name] = Converted(name, (whole,), (f"{adapter.source.name}: {name}",), _own(name, tensors, whole))
        for name, pair in adapter.pairs.items():
            if pair.magnitude is not None and factor != 1:
                raise ConversionError(f"merging {adapter.source}: it is a DoRA, which has no factor; 1 works")
            changes.setdefault(name, []).append((pair, factor, adapter.source.name))
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
