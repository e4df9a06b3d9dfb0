"""Where values lie: storages, and strided views of them whose sizes may be symbolic. It knows no ops and no bytes.

    View = storage + offset (bytes) + shape + strides (elements), both in extents

Reshape, permute, slice and expand give another view of the same storage where strides allow, and None where not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from puna.dtypes import DType
from puna.graph.tensor import Dim

Extent = tuple[int, int, int, int]
"""factor * T^a * O^b * S^c: a length or a stride."""
Extents = tuple[Extent, ...]

ZERO: Extent = (0, 0, 0, 0)
ONE: Extent = (1, 0, 0, 0)
SYMBOLS = ("T", "O", "S")


def number(n: int) -> Extent:
    """An extent without symbols."""
    return (n, 0, 0, 0)


def extent(dim: int | Dim) -> Extent:
    """A dimension as an extent."""
    if isinstance(dim, int):
        return number(dim)
    t, o, s = (int(dim.name == symbol) for symbol in SYMBOLS)
    return (1, t, o, s)


def extents(shape: Iterable[int | Dim]) -> Extents:
    """A tensor's shape as extents."""
    return tuple(extent(d) for d in shape)


def times(a: Extent, b: Extent) -> Extent:
    """The product of two extents."""
    if not a[0] or not b[0]:
        return ZERO
    return (a[0] * b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


def product(shape: Iterable[Extent]) -> Extent:
    """The product of extents."""
    out = ONE
    for e in shape:
        out = times(out, e)
    return out


def value(e: Extent, sizes: Mapping[str, int]) -> int:
    """An extent's number in a run of the given sizes."""
    return int(e[0] * sizes["T"] ** e[1] * sizes["O"] ** e[2] * sizes["S"] ** e[3])


@dataclass(eq=False, slots=True)
class Storage:
    """Memory of one value: planned (`nbytes` of the run's sizes) or outside (an array).

    `common` memory is one for all threads, and `fixed` memory also keeps its place; of others each thread may have one.
    """

    index: int
    nbytes: Callable[[Mapping[str, int]], int]
    array: NDArray[Any] | None = None
    fixed: bool = False
    common: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A strided part of a storage."""

    storage: Storage
    dtype: DType
    shape: Extents
    strides: Extents
    offset: int = 0

    @property
    def contiguous(self) -> bool:
        """Whether elements follow each other in row-major order."""
        wanted = packed_strides(self.shape)
        return all(d == ONE or a == b for d, a, b in zip(self.shape, self.strides, wanted, strict=True))

    @property
    def has_whole_rows(self) -> bool:
        """Whether the elements of the last axis are neighbours."""
        return not self.shape or self.shape[-1] == ONE or self.strides[-1] == ONE


def packed_strides(shape: Extents) -> Extents:
    """Strides of a row-major array without gaps."""
    return tuple(product(shape[i + 1 :]) for i in range(len(shape)))


def whole(storage: Storage, dtype: DType, shape: Extents) -> View:
    """All of a storage, row-major."""
    return View(storage, dtype, shape, packed_strides(shape))


def permute(view: View, axes: Sequence[int]) -> View:
    """Axes reordered."""
    return replace(view, shape=tuple(view.shape[a] for a in axes), strides=tuple(view.strides[a] for a in axes))


def slice_axis(view: View, axis: int, start: int, stop: int) -> View | None:
    """Elements `start` up to `stop` of an axis; None where the offset would be symbolic."""
    factor, *powers = view.strides[axis]
    if start and any(powers):
        return None
    shape = (*view.shape[:axis], number(stop - start), *view.shape[axis + 1 :])
    return replace(view, shape=shape, offset=view.offset + start * factor * view.dtype.block_bytes)


def expand(view: View, shape: Extents) -> View:
    """Broadcast by numpy's rule: repeated axes have stride 0."""
    missing = len(shape) - len(view.shape)
    kept = zip(view.shape, shape[missing:], view.strides, strict=True)
    strides = [stride if have == want and want != ONE else ZERO for have, want, stride in kept]
    return replace(view, shape=shape, strides=(ZERO,) * missing + tuple(strides))


def reshape(view: View, shape: Extents) -> View | None:
    """The same elements in row-major order under another shape, where no copy is needed."""
    if view.contiguous:
        return replace(view, shape=shape, strides=packed_strides(shape))
    old = [(d, s) for d, s in zip(view.shape, view.strides, strict=True) if d != ONE]
    strides: list[Extent] = []
    at = 0
    while at < len(old):
        at, group, new = _match(old, at, shape, len(strides))
        if not group or any(a[1] != times(b[0], b[1]) for a, b in pairwise(group)):
            return None
        strides.extend(times(product(new[i + 1 :]), group[-1][1]) for i in range(len(new)))
    strides.extend(ONE for _ in shape[len(strides) :])  # what is left has length 1
    return replace(view, shape=shape, strides=tuple(strides))


Axes = list[tuple[Extent, Extent]]


def _match(old: Axes, at: int, shape: Extents, done: int) -> tuple[int, Axes, Extents]:
    """The fewest axes of `old` from `at` that hold as many elements as axes of `shape` from `done`; where they end."""
    for end in range(at + 1, len(old) + 1):
        size = product(d for d, _ in old[at:end])
        for stop in range(done + 1, len(shape) + 1):
            if product(shape[done:stop]) == size:
                return end, old[at:end], shape[done:stop]
    return len(old), [], ()
