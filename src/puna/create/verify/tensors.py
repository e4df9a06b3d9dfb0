"""Tensors one by one: whether all are there, and how far each is from its source; or, alone, whether it makes sense."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.arch.binding import IGNORED
from puna.create.verify.limits import Limits
from puna.create.verify.measures import Sums
from puna.create.verify.report import DRIFT, OK, Check, TensorReport
from puna.create.verify.sides import Side
from puna.dtypes import DTYPES, F32, Stored
from puna.errors import PunaError
from puna.store.blobs import Progress

Array = NDArray[Any]
BAND = 1 << 22
"""Elements compared at once."""

TIED = {"output.weight": "token_embd.weight"}
"""A tensor that some files leave out, and the one that serves in its place."""


def inventory(model: Side, source: Side) -> Check:
    """Whether the model has every tensor of the source, in its shape, and no other."""
    needless = IGNORED
    missing = [n for n in source.tensors if n not in model.tensors and not n.endswith(needless)]
    missing = [n for n in missing if TIED.get(n) not in model.tensors or not _same(source, n, TIED[n])]
    extra = [n for n in model.tensors if n not in source.tensors and not n.endswith(needless)]
    extra = [n for n in extra if not n.startswith(model.arch.gguf_ignored)]
    extra = [n for n in extra if TIED.get(n) not in source.tensors or not _same(model, n, TIED[n])]
    both = [n for n in source.tensors if n in model.tensors]
    shapes = [n for n in both if tuple(model.tensors[n].shape) != tuple(source.tensors[n].shape)]
    findings = [f"'{n}' is missing" for n in missing] + [f"'{n}' is not the source's" for n in extra]
    findings += [f"'{n}': shape {_shape(model, n)}, the source's {_shape(source, n)}" for n in shapes]
    counts = f"{len(both)} tensors of {sum(prod(source.tensors[n].shape) for n in both):,} parameters are there"
    return Check("inventory", DRIFT if findings else OK, counts + _left(source.left_out), tuple(findings))


def _left(names: tuple[str, ...]) -> str:
    """What of the source has no use here, by name as far as a line goes."""
    if not names:
        return ""
    return f"; not needed: {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shape(side: Side, name: str) -> str:
    return " x ".join(map(str, side.tensors[name].shape))


def _same(side: Side, one: str, other: str) -> bool:
    a, b = side.tensors[one], side.tensors[other]
    return tuple(a.shape) == tuple(b.shape) and a.dtype is b.dtype and bool(np.array_equal(a.raw, b.raw))


def compare(model: Side, source: Side, limits: Limits, progress: Progress) -> Iterator[TensorReport]:
    """Each tensor that both have in one shape, in the model's order."""
    names = [n for n, t in model.tensors.items() if n in source.tensors and t.shape == source.tensors[n].shape]
    total = sum(model.tensors[n].dtype.nbytes(tuple(model.tensors[n].shape)) for n in names)
    done = 0
    for name in names:
        found, right = model.tensors[name], source.tensors[name]
        progress("comparing tensors", done, total)
        sums = Sums()
        for want, got in zip(bands(right), bands(found), strict=True):
            sums.add(want, got)
        limit = limits.of_tensor(found.dtype.name)
        yield TensorReport(
            name=name,
            source=_origin(right) or name,
            dtype=found.dtype.name,
            shape=tuple(found.shape),
            nmse=sums.nmse,
            cosine=sums.cosine,
            gain=sums.gain,
            max_error=sums.most,
            limit=limit,
            drifts=not sums.nmse <= limit,
        )
        done += found.dtype.nbytes(tuple(found.shape))
    progress("comparing tensors", total, total)


def _origin(tensor: Stored) -> str:
    """The name that a computed tensor has in its checkpoint."""
    return str(getattr(tensor, "source_name", ""))


def bands(tensor: Stored) -> Iterator[Array]:
    """A tensor's values in order, some rows at a time, the same number for every type."""
    columns = tensor.shape[-1] if tensor.shape else 1
    rows = int(prod(tensor.shape)) // max(columns, 1)
    step, size = max(1, BAND // max(columns, 1)), tensor.dtype.nbytes((1, columns))
    if not (tensor.dtype.quantized or tensor.dtype.is_float):
        values = tensor.numpy().reshape(rows, columns)
        yield from (values[start : start + step] for start in range(0, rows, step))
        return
    waiting: list[NDArray[np.uint8]] = []
    held, wanted, left = 0, step * size, rows
    chunks = getattr(tensor, "chunks", None)
    for chunk in chunks() if chunks else [tensor.raw]:
        while chunk.nbytes:
            part, chunk = chunk[: wanted - held], chunk[wanted - held :]
            waiting.append(part)
            held += part.nbytes
            if held == min(wanted, left * size):
                count = held // size
                yield _values(waiting, tensor, (count, columns))
                waiting, held, left = [], 0, left - count


def _values(parts: list[NDArray[np.uint8]], tensor: Stored, shape: tuple[int, int]) -> Array:
    from puna.formats.mapped import to_values

    raw = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return to_values(raw, tensor.dtype, shape)


def alone(model: Side, progress: Progress) -> Check:
    """Whether every tensor of a model can be decoded, is finite, and is not nothing."""
    findings: list[str] = []
    total = sum(t.dtype.nbytes(tuple(t.shape)) for t in model.tensors.values())
    done = 0
    for name, tensor in model.tensors.items():
        progress("reading tensors", done, total)
        if fault := _fault(tensor):
            findings.append(f"'{name}' ({tensor.dtype}) {fault}")
        done += tensor.dtype.nbytes(tuple(tensor.shape))
    progress("reading tensors", total, total)
    kinds = sorted({t.dtype.name for t in model.tensors.values()}, key=list(DTYPES).index)
    detail = f"{len(model.tensors)} tensors in {', '.join(kinds)}: decoded, every value looked at"
    return Check("tensors", DRIFT if findings else OK, detail, tuple(findings))


def _fault(tensor: Stored) -> str:
    """What is wrong with a tensor's values: not decodable, not finite, all zero, or one block far above all others."""
    largest = 0.0
    try:
        for band in bands(tensor):
            if bad := int(band.size - np.isfinite(band).sum()):
                return f"has values that are not finite: {bad:,} in one band of {band.size:,}"
            largest = max(largest, float(np.abs(band).max(initial=0)))
    except PunaError as error:
        return f"cannot be decoded: {error}"
    if tensor.dtype.quantized and largest > MOST_SANE:
        return f"has values up to {largest:.3g}, which no trained matrix has"
    return "is all zero" if not largest and tensor.dtype is not F32 else ""


MOST_SANE = 1e4
"""A larger value in a quantized matrix means a scale that was damaged."""
