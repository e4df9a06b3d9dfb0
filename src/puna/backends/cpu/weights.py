"""Weights in the layouts that kernels read: packed panels for matrices, float32 for the rest; made when first used.

Bytes of a mapped file are read once and given back to the system; a matrix that is only looked up stays there. Packing
goes on in the background while a program is made of the panels; whoever runs one waits for it.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.backends.base import Progress
from puna.backends.cpu import _native
from puna.backends.cpu.memory import readable, require
from puna.dtypes import DType, Stored
from puna.errors import BackendError
from puna.quants.iq_tables import GRIDS, grid_levels

Bytes = NDArray[np.uint8]
BLOCK = 128 << 20
"""Bytes that packed matrices take from the system at a time: on huge pages, and used only where written."""
PAGE = 2 << 20
"""Bytes of a huge page: one that a block ends in is there as a whole, so its rest is given out too."""

PATIENCE = 0.05
"""Seconds between two reports of progress."""


class Weights:
    """Stored tensors by name, and what was made of them so far."""

    def __init__(
        self,
        stored: Mapping[str, Stored],
        pool: _native.Pool,
        progress: Progress | None,
        beside: Weights | None = None,
    ) -> None:
        self._stored = stored
        self._beside = beside  # whose weights are there too
        self._pool = pool
        self._progress = progress
        self._packed: dict[str, Bytes] = {}
        self._values: dict[str, NDArray[Any]] = {}
        self._free: list[Bytes] = []  # what is left of blocks
        self._jobs: list[tuple[int, int, int, int, Bytes, Bytes, bool]] = []  # not begun yet
        self._packing: list[tuple[_native.Packing, int]] = []  # under way, each with the stored bytes of it
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes made so far; what stays in the mapped file is not counted."""
        return sum(a.nbytes for a in (*self._packed.values(), *self._values.values()))

    def stored(self, name: str, shape: tuple[int, ...], dtype: DType | None = None) -> Stored:
        """The handle of a weight; BackendError where it was not loaded, or differs from what the graph says."""
        tensor = self._owner(name)._stored.get(name)
        if tensor is not None and tuple(tensor.shape) == shape and dtype in (None, tensor.dtype):
            return tensor
        found = "nothing by that name" if tensor is None else f"shape {tuple(tensor.shape)}, {tensor.dtype}"
        wanted = f"shape {shape}" + (f", {dtype}" if dtype else "")
        raise BackendError(f"backend 'cpu': weight '{name}' of {wanted} was not loaded; found {found}")

    def is_packed(self, name: str) -> bool:
        """Whether the panels exist already."""
        return name in self._owner(name)._packed

    def _owner(self, name: str) -> Weights:
        return self if self._beside is None or name in self._stored else self._beside

    def packed(self, name: str, shape: tuple[int, ...], dtype: DType) -> Bytes:
        """Where the panels of a matrix, or of (E, N, K) matrices one after the other, are or will be."""
        if (owner := self._owner(name)) is not self:
            return owner.packed(name, shape, dtype)
        if name not in self._packed:
            raw, (*count, n, k), kind = self.raw(name, shape, dtype), shape, type_id(dtype)
            matrices = count[0] if count else 1
            self._packed[name] = out = self._memory(matrices * _native.packed_bytes(kind, n, k))
            self._jobs.append((kind, matrices, n, k, raw, out, mapped(raw) is not None))
            if mapped(raw) is None:  # made for this: not to be kept
                self.start()
                self.finish()
        return self._packed[name]

    def start(self) -> None:
        """Begin to pack what was asked for."""
        if self._beside is not None:
            self._beside.start()
        if jobs := self._jobs:
            require(sum(out.nbytes for *_, out, _ in jobs), "the weights")
            self._packing.append((_native.Packing(jobs, self._pool.size), sum(raw.nbytes for *_, raw, _, _ in jobs)))
            self._jobs = []

    def finish(self) -> None:
        """Wait until all that was begun is packed, and report progress; BackendError in a process forked meanwhile."""
        if self._beside is not None:
            self._beside.finish()
        with self._lock:
            while self._packing:
                packing, total = self._packing[0]
                while not self._is_done(packing):
                    self._report(packing.done, total)
                self._report(total, total)
                self._packing.pop(0)

    def _is_done(self, packing: _native.Packing) -> bool:
        try:
            return packing.wait(PATIENCE if self._progress else 1)
        except RuntimeError as error:  # after a fork
            raise BackendError(f"loading: {error}") from error

    def _report(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)

    def _memory(self, nbytes: int) -> Bytes:  # a multiple of 64
        for i, free in enumerate(self._free):
            if nbytes <= free.nbytes:
                self._free[i] = free[nbytes:]
                return free[:nbytes]
        size = BLOCK if nbytes <= BLOCK // 2 else -(-nbytes // PAGE) * PAGE
        try:
            block = _native.allocate(size, False)
        except MemoryError as error:
            so_far = sum(array.nbytes for array in self._packed.values())
            raise BackendError(
                f"loading: the system refuses {readable(nbytes)} for weights, with {readable(so_far)} taken; "
                "a limit (ulimit -v) or overcommit may be set; a smaller quantization needs less"
            ) from error
        self._free.append(block[nbytes:])
        return block[:nbytes]

    def raw(self, name: str, shape: tuple[int, ...], dtype: DType) -> Bytes:
        """The stored bytes, as they are."""
        return self.stored(name, shape, dtype).raw

    def values(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """The values: float32, or the integers stored."""
        if (owner := self._owner(name)) is not self:
            return owner.values(name, shape)
        if name not in self._values:
            tensor = self.stored(name, shape)
            self._values[name] = np.ascontiguousarray(tensor.numpy())
            release(tensor.raw)
        return self._values[name]


def type_id(dtype: DType) -> int:
    """The number of a stored type; -1, which no kernel has, where ggml has none."""
    return -1 if dtype.ggml_id is None else dtype.ggml_id


@cache
def has_product(dtype: DType) -> bool:
    """Whether the product kernels read matrices of a type, once they have its grid, if it is one of those."""
    grid = "IQ1_S" if dtype.name == "IQ1_M" else dtype.name
    if grid in GRIDS:
        _native.take_grid(type_id(dtype), grid_levels(grid).reshape(-1))
    return _native.is_linear_type(type_id(dtype))


def release(raw: Bytes) -> None:
    """Tell the system that the pages of a mapped file under `raw` are not needed now; they can be read again."""
    source, advice = mapped(raw), getattr(mmap, "MADV_DONTNEED", None)
    if source is None or advice is None:
        return
    base = np.frombuffer(source, np.uint8).ctypes.data
    start = -(-(raw.ctypes.data - base) // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (raw.ctypes.data - base + raw.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if stop > start:
        source.madvise(advice, start, stop - start)


def mapped(array: NDArray[Any]) -> mmap.mmap | None:
    """The read-only mapped file under a view; None where the bytes lie elsewhere."""
    if array.flags.writeable:
        return None
    owner: Any = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return owner if isinstance(owner, mmap.mmap) else None
