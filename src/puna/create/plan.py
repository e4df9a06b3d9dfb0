"""What a conversion is going to write, decided from headers alone: types, metadata, files, sizes, memory.

Nothing large is read here. Which type a tensor gets is `puna.create.quantizing`; `puna.create.convert` carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from puna.create.edits import check_edits
from puna.create.original import Original
from puna.create.quantizing import Quantizing
from puna.create.report import ConversionReport, KeyReport, TensorReport, shown
from puna.create.shards import Shard, cut
from puna.create.tensors import Converted, memory_of
from puna.create.transforms import why
from puna.dtypes import Stored
from puna.errors import ConversionError
from puna.formats.gguf_shards import SHARD
from puna.formats.gguf_writer import Layout, lay_out
from puna.formats.mapped import MappedTensor

if TYPE_CHECKING:
    from puna.store.blobs import Progress

OVERHEAD = 60 << 20
"""Memory beside tensors: Python, NumPy, a vocabulary."""


@dataclass(frozen=True)
class Plan:
    """What will be written; `shards` are the files, `tensors` all of theirs."""

    original: Original
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    shards: Sequence[Shard]
    recipe: str
    threads: int
    warnings: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.dtype.nbytes(tensor.shape) for tensor in self.tensors.values())

    @cached_property
    def layouts(self) -> list[Layout]:
        """Where everything is in each of the files."""
        return [_laid_out(shard, self.original.alignment) for shard in self.shards]

    @property
    def memory(self) -> int:
        """About how much memory carrying it out takes: as many of the largest pieces as there are threads."""
        largest = sorted((memory_of(tensor) for tensor in self.tensors.values()), reverse=True)
        return OVERHEAD + sum(largest[: self.threads])

    def estimate(self) -> float:
        """About how many seconds computing takes, by trying one piece of each pair of types; copying counts as none."""
        rates: dict[tuple[str, str], float] = {}
        seconds = 0.0
        for tensor in self.tensors.values():
            if not isinstance(tensor, Converted) or tensor.dtype is tensor.source_dtype:
                continue
            pair = tensor.source_dtype.name, tensor.dtype.name
            nbytes = tensor.dtype.nbytes(tensor.shape)
            if pair not in rates and nbytes:
                rates[pair] = _seconds_per_byte(tensor)
            seconds += rates.get(pair, 0.0) * nbytes
        return seconds / self.threads

    def report(self, out: Path) -> ConversionReport:
        """Everything that is known before it is carried out."""
        return ConversionReport(
            source=str(self.original.path),
            out=str(out),
            architecture=self.original.arch,
            parameters=sum(prod(tensor.shape) for tensor in self.tensors.values()),
            nbytes=self.nbytes,
            seconds=0.0,
            tensors=tuple(report_tensor(name, tensor) for name, tensor in self.tensors.items()),
            left_out=self.original.left_out,
            keys=tuple(self._keys()),
            warnings=(*self.original.warnings, *self.warnings),
            files=tuple(str(shard.path) for shard in self.shards),
            recipe=self.recipe,
            digest=self.original.digest,
            memory=self.memory,
            size=sum(layout.size for layout in self.layouts),
        )

    def _keys(self) -> list[KeyReport]:
        values, origins = self.original.values, self.original.origins
        return [
            KeyReport(key, origins.get(key, "asked for"), shown(values.get(key, _plain(value))))
            for key, value in self.metadata.items()
        ]


def _laid_out(shard: Shard, alignment: int) -> Layout:
    tensors = [(name, tensor.shape, tensor.dtype) for name, tensor in shard.tensors.items()]
    return lay_out(shard.metadata, tensors, alignment=alignment)


def _seconds_per_byte(tensor: Converted) -> float:
    piece = next(tensor.pieces())
    begun = perf_counter()
    piece.make()
    piece.release()
    return (perf_counter() - begun) / piece.nbytes


def _values(original: Original, written: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is written as values, whatever carries their types."""
    known = {key: value for key, value in original.values.items() if key not in wanted}
    return {key: known[key] if key in known else _plain(value) for key, value in written.items()}


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def plan(
    original: Original,
    out: Path,
    quantizing: Quantizing,
    *,
    shard_size: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    threads: int = 1,
    on_progress: Progress | None = None,
) -> Plan:
    """Decide everything; ConversionError says what cannot be done. Only a target size reads more than headers."""
    tensors = quantizing.types_of(original, threads, on_progress, metadata) if quantizing else dict(original.tensors)
    written: Mapping[str, Any] = dict(original.metadata) | quantizing.metadata(original, tensors)
    if metadata:
        written = original.edited(written, metadata)
        check_edits(metadata, original.values, _values(original, written, metadata), original.tensors)
    shards = cut(out, written, tensors, shard_size)
    _refuse_other_sets(shards)
    warnings = tuple(quantizing.warnings(original, tensors)) if quantizing else ()
    return Plan(original, written, tensors, shards, quantizing.said or "as it is", threads, warnings)


def _refuse_other_sets(shards: Sequence[Shard]) -> None:
    """ConversionError where a set by the same name, of another number of files, would be left beside this one."""
    names = {shard.path.name for shard in shards}
    if not (own := SHARD.fullmatch(shards[0].path.name)):
        return
    for path in sorted(shards[0].path.parent.glob("*.gguf")):
        other = SHARD.fullmatch(path.name)
        if other and other[1] == own[1] and path.name not in names:
            raise ConversionError(
                f"writing {shards[0].path}: {path.name} is of another set by that name; remove it, or write to another "
                "name"
            )


def report_tensor(name: str, tensor: Stored) -> TensorReport:
    """What becomes of one tensor."""
    made = tensor if isinstance(tensor, Converted) else None
    return TensorReport(
        name=name,
        source=made.source_name if made else (name if isinstance(tensor, MappedTensor) else "config.json"),
        shape=tensor.shape,
        source_dtype=(made.source_dtype if made else tensor.dtype).name,
        dtype=tensor.dtype.name,
        transform=", ".join(chain(["stack"] * (made is not None and made.stacked), map(str, made.transforms)))
        if made
        else "",
        nbytes=tensor.dtype.nbytes(tensor.shape),
        why=why(made.transforms) if made else "",
        rule=made.why if made else "as it is",
        sources=made.part_names if made else (),
    )
