"""The compiled codecs, where they were built: the same bytes as numpy's, many times faster. It knows no codec's format.

The library is `puna.quants._native`, apart from the CPU backend's: a backend is above `quants`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.errors import ConversionError
from puna.quants import grids
from puna.quants.codec import Bytes, Floats

try:
    from puna.quants import _native
except ImportError:  # no compiler where it was installed
    _encoders: frozenset[str] = frozenset()
    _decoders: frozenset[str] = frozenset()
    ISAS: tuple[str, ...] = ("numpy",)
else:
    _encoders, _decoders = frozenset(_native.encoders()), frozenset(_native.decoders())
    ISAS = ("numpy", *_native.isas())

SOURCES = {"F32": 0, "F16": 1, "BF16": 2}
"""What can be encoded: the number of each element type in native/quantize/codec.h."""

FINE, NOT_FINITE, TOO_LARGE = range(3)


def encodes(name: str, isa: str) -> bool:
    """Whether there is native code that writes type `name`; `isa` is one of `ISAS` or "auto"."""
    return _chosen(isa) and name in _encoders


def decodes(name: str, isa: str) -> bool:
    """Whether there is native code that reads type `name`; `isa` is one of `ISAS` or "auto"."""
    return _chosen(isa) and name in _decoders


def encode(
    name: str, isa: str, source: str, rows: NDArray[Any], importance: Floats | None, out: Bytes
) -> tuple[int, int]:
    """Encode `rows` (n, columns), elements of type `source`, with `importance` (columns,) into `out`, contiguous bytes.

    FINE, or what was found (NOT_FINITE, TOO_LARGE: a scale) and the first element of the chunk where it was.
    """
    _hand_over(name, encoding=True)
    return _native.encode(name, isa, SOURCES[source], rows.shape[1], _flat(rows), importance, _flat(out))


def decode(name: str, isa: str, raw: Bytes, out: Floats) -> None:
    """Decode `raw` into `out`, both contiguous."""
    _hand_over(name, encoding=False)
    _native.decode(name, isa, _flat(raw), out.reshape(-1))


@cache
def _hand_over(name: str, encoding: bool) -> None:
    """Give the library the grid of type `name`, if it has one."""
    grid = "IQ1_S" if name == "IQ1_M" else name
    if grid not in grids.DISTANCES:
        return
    _native.take_points(grid, grids.points(grid))
    if encoding:
        tables = grids.tables(grid)
        _native.take_lattice(grid, tables.codes, tables.index, tables.cells, tables.near)


def _flat(array: NDArray[Any]) -> Bytes:
    return array.reshape(-1).view(np.uint8)


def _chosen(isa: str) -> bool:
    if isa not in ("auto", *ISAS):
        raise ConversionError(f"quants: this machine does not run {isa!r}; auto, {', '.join(ISAS)} would work")
    return isa != "numpy"
