"""One source of a tensor on its way to GGUF: how it is cut into pieces, and what happens to each.

The first way that fits is taken: bytes are copied; bands of rows are moved and converted; a packed weight's blocks are
kept, or it is unpacked; else whole matrices. Pieces do not depend on each other, so threads may share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import quants
from puna.arch.transform import Transform
from puna.create.finite import first_not_finite
from puna.create.prequantized import Unpacked
from puna.create.transforms import apply, moves_only, moves_rows, shape_after
from puna.dtypes import BF16, F16, F32, DType, Stored
from puna.errors import ConversionError
from puna.formats.mapped import MappedTensor, to_values

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Probe = Callable[[Array, Bytes], None]
"""Sees values as they were, float32, and the bytes that they became."""

BAND = 1 << 20
"""Elements converted at once: 4 MB as float32."""

COPIED = 1 << 20
"""Bytes copied at once."""

OF_EACH = {"permute_rope", "rows", "regroup", "transpose", "plus_one", "negative_exp", "tanh"}
"""Transforms that do to a stack of matrices what they do to each of them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`nbytes` of a tensor's data from byte `start` on, which `make` computes; `release` lets go of what it read."""

    start: int
    nbytes: int
    make: Callable[[], Bytes]
    release: Callable[[], None] = lambda: None


def passes(source: Stored, transforms: tuple[Transform, ...]) -> str | None:
    """The block type that a packed weight can be written in as it is: the same codes and scales, transformed."""
    if not isinstance(source, Unpacked) or source.blocks is None:
        return None
    if source.transposed:
        fits = bool(transforms) and transforms[0].kind == "transpose" and moves_rows(transforms[1:])
    else:
        fits = moves_rows(transforms)
    return source.lossless if fits else None


def release(tensor: Stored) -> None:
    """Let go of what was read of a tensor in a mapped file, and of those that a packed weight is made of."""
    if isinstance(tensor, MappedTensor):
        tensor.release()
    elif isinstance(tensor, Unpacked):
        for part in tensor.parts.values():
            release(part)


@dataclass(frozen=True)
class Part:
    """One source on its way: how it is cut, and what happens to each piece."""

    source: Stored
    name: str
    dtype: DType
    transforms: tuple[Transform, ...]
    importance: Array | None
    probe: Probe | None

    @property
    def way(self) -> Callable[[], Iterator[Piece]]:
        """The first way of cutting it that fits."""
        source = self.source
        if isinstance(source, MappedTensor) and source.shape and 0 not in source.shape:
            if not self.transforms and self.dtype is source.dtype:
                return partial(self.copied, source)
            if len(source.shape) > 1 and moves_rows(self.transforms):
                return partial(self._bands, source)
        if isinstance(source, Unpacked) and self.dtype.name == passes(source, self.transforms):
            return partial(self._blocks, source)
        if isinstance(source, Unpacked) and not self.transforms:
            return partial(self._unpacked, source)
        return self._items

    def pieces(self) -> Iterator[Piece]:
        """The bytes of this part of the output."""
        return self.way()

    @property
    def memory(self) -> int:
        """About how many bytes making its largest piece takes."""
        shape, way = self.source.shape, self.way
        if way == self._items:
            each = len(shape) == 3 and all(t.kind in OF_EACH for t in self.transforms)
            return 12 * prod(shape[1:] if each else shape)
        columns = shape[-1] if len(shape) < 3 or not isinstance(self.source, Unpacked) else prod(shape[1:])
        return COPIED if not self.transforms and self.dtype is self.source.dtype else 12 * max(BAND, columns)

    def copied(self, source: MappedTensor) -> Iterator[Piece]:
        """The bytes of the source as they are."""
        size = source.dtype.block_bytes

        def make(start: int, stop: int) -> Bytes:
            stored = source.read(start, stop)
            self._check(stored, lambda bad: bad + start // size)
            return stored

        for start in range(0, source.nbytes, COPIED):
            stop = min(start + COPIED, source.nbytes)
            yield Piece(start, stop - start, partial(make, start, stop))

    def _bands(self, source: MappedTensor) -> Iterator[Piece]:
        """Bands of rows, which may come from other places, of a matrix or of each of a stack."""
        *outer, height, columns = source.shape
        index = apply(self.transforms, np.arange(height)) if self.transforms else None
        count, release = height if index is None else len(index), source.release
        size, row = source.dtype.row_bytes(columns), self.dtype.row_bytes(columns)
        step = max(1, BAND // columns)

        def make(matrix: int, start: int, stop: int) -> Bytes:
            rows = np.arange(start, stop) if index is None else index[start:stop]
            part = _rows(source, matrix * height, rows, size)
            place = lambda bad: (matrix * height + rows[bad // columns]) * columns + bad % columns  # noqa: E731
            self._check(part, place)
            return self._encoded(part, source.dtype, (stop - start, columns), self._weights(matrix), place)

        for matrix in range(prod(outer)):
            for start in range(0, count, step):
                stop = min(start + step, count)
                at = (matrix * count + start) * row
                yield Piece(at, (stop - start) * row, partial(make, matrix, start, stop), release)

    def _unpacked(self, source: Unpacked) -> Iterator[Piece]:
        """Bands along the first axis of a weight that is computed."""
        size = self.dtype.nbytes((1, *source.shape[1:]))
        each = prod(source.shape[1:])
        step = max(1, BAND // max(1, each) // source.step) * source.step

        def make(start: int, stop: int) -> Bytes:
            values = to_values(source.band(start, stop), source.dtype, (stop - start, *source.shape[1:]))
            place = lambda bad: bad + start * each  # noqa: E731
            self._check_values(values, place)
            return self._quantized(values, self._weights(start), place)

        for start in range(0, source.shape[0], step):
            stop = min(start + step, source.shape[0])
            yield Piece(start * size, (stop - start) * size, partial(make, start, stop), partial(release, source))

    def _blocks(self, source: Unpacked) -> Iterator[Piece]:
        """Blocks that hold the same codes and scales, along the first axis; rows may come from other places."""
        blocks = source.blocks
        if blocks is None:  # `passes` said that there are some
            return
        moves = self.transforms[1:] if source.transposed else self.transforms
        out = shape_after(self.transforms, source.shape, self.name)
        each = self.dtype.nbytes((1, *out[1:]))
        whole = len(source.shape) < 3 and bool(moves)
        step = out[0] if whole else max(1, BAND // max(1, prod(out[1:])))

        def make(start: int, stop: int) -> Bytes:
            rows = blocks(0, source.shape[0]) if whole else blocks(start, stop)
            return np.ascontiguousarray(apply(moves, rows)).reshape(-1)

        for start in range(0, out[0], step):
            stop = min(start + step, out[0])
            yield Piece(start * each, (stop - start) * each, partial(make, start, stop), partial(release, source))

    def _items(self) -> Iterator[Piece]:
        """The whole, or one matrix of a stack after the other, as elements."""
        shape = self.source.shape
        each = len(shape) == 3 and all(t.kind in OF_EACH for t in self.transforms)
        out = shape_after(self.transforms, shape[1:] if each else shape, self.name)
        size = self.dtype.nbytes(out)
        for i in range(shape[0] if each else 1):
            make = partial(self._item, i if each else None)
            yield Piece(i * size, size, make, partial(release, self.source))

    def _item(self, i: int | None) -> Bytes:
        source, shape = self.source, self.source.shape if i is None else self.source.shape[1:]
        offset = prod(shape) * (i or 0)
        if i is None:
            stored = source.raw
        elif isinstance(source, Unpacked):
            stored = source.band(i, i + 1)
        else:
            size = source.dtype.nbytes(shape)
            stored = source.raw[i * size : (i + 1) * size]
        place = lambda bad: bad + offset  # noqa: E731
        self._check(stored, place)
        moved, dtype = stored, source.dtype
        if not dtype.quantized and moves_only(self.transforms):
            elements = apply(self.transforms, stored.view(dtype.numpy).reshape(shape))
            moved = np.ascontiguousarray(elements).reshape(-1).view(np.uint8)
            return self._encoded(moved, dtype, elements.shape, self._weights(i or 0), place)
        values = apply(self.transforms, to_values(stored, dtype, shape))
        self._check_values(values, place)
        return self._quantized(np.ascontiguousarray(values), self._weights(i or 0), place)

    def _weights(self, matrix: int) -> Array | None:
        if self.importance is None or self.importance.ndim == 1:
            return self.importance
        row: Array = self.importance[matrix]
        return row

    def _encoded(
        self, stored: Bytes, dtype: DType, shape: tuple[int, ...], weights: Array | None, place: Callable[[int], int]
    ) -> Bytes:
        if dtype is self.dtype:
            return stored
        if dtype is BF16 and self.dtype.quantized and not self.probe:
            return self._quantized(stored.view("<u2").reshape(shape), weights, place)
        return self._quantized(to_values(stored, dtype, shape), weights, place)

    def _quantized(self, values: Array, weights: Array | None, place: Callable[[int], int]) -> Bytes:
        try:
            bits = values.dtype == np.uint16
            encoded: Bytes = quants.quantize(values, self.dtype.name, weights, bf16=bits).reshape(-1).view(np.uint8)
        except ConversionError as error:
            raise ConversionError(f"converting '{self.name}': {error}") from error
        if (bad := first_not_finite(encoded, self.dtype)) is not None:
            if not np.isfinite(most := values.reshape(-1)[bad]):
                self._refuse(most, place(bad))
            wider = "BF16 or F32" if self.dtype is F16 else "F32"
            raise ConversionError(
                f"converting '{self.name}': {self.dtype} cannot hold {most:g}, {self._at(place(bad))}; "
                f"{wider} would work"
            )
        if self.probe:
            self.probe(values, encoded)
        return encoded

    def _check(self, stored: Bytes, place: Callable[[int], int]) -> None:
        bad = first_not_finite(stored, self.source.dtype)
        if bad is not None:
            value = to_values(stored, self.source.dtype, (stored.size // self.source.dtype.block_bytes,))[bad]
            self._refuse(value, place(bad))

    def _check_values(self, values: Array, place: Callable[[int], int]) -> None:
        bad = first_not_finite(np.ascontiguousarray(values).reshape(-1).view(np.uint8), F32)
        if bad is not None:
            self._refuse(values.reshape(-1)[bad], place(bad))

    def _refuse(self, value: float, at: int) -> None:
        raise ConversionError(
            f"converting '{self.name}': its value {self._at(at)} is {value:g}; weights are finite numbers: "
            "the checkpoint is damaged, fetch it again"
        )

    def _at(self, index: int) -> str:
        where = np.unravel_index(index, self.source.shape) if self.source.shape else ()
        return f"at ({', '.join(str(int(i)) for i in where)})"


def _rows(source: MappedTensor, first: int, rows: Array, size: int) -> Bytes:
    """The stored bytes of some rows of `size` bytes, counted from `first`, one after the other."""
    low, high = int(rows.min()), int(rows.max()) + 1
    if high - low > 2 * len(rows):  # from all over the tensor
        picked: Bytes = source.raw.reshape(-1, size)[first + rows].reshape(-1)
        return picked
    stored = source.read((first + low) * size, (first + high) * size)
    return (
        stored
        if high - low == len(rows) and np.all(np.diff(rows) == 1)
        else stored.reshape(-1, size)[rows - low].reshape(-1)
    )
