"""The grids of the IQ types as flat tables, which the native code looks up. It knows no block layout.

A code spells the levels of a point: 2 bits for each of 8 coordinates, 3 bits for each of 4, first coordinate lowest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.quants.iq_search import lattice
from puna.quants.iq_tables import GRIDS, grid, grid_levels

BATCH = 16
"""Neighbours that are compared at once."""

DISTANCES = {"IQ1_S": 3, "IQ2_XXS": 2, "IQ2_XS": 2, "IQ2_S": 1, "IQ3_XXS": 2, "IQ3_S": 3}
"""Grid: how many smallest distances from a cell make a point its neighbour."""


def points(name: str) -> NDArray[np.int8]:
    """Return the coordinates of all points of a grid, one point after the other."""
    return grid(name).astype(np.int8).reshape(-1)


@dataclass(frozen=True)
class Tables:
    """Codes of points (points,); the point of a code, and where the neighbours of a cell are (codes,); the neighbours.

    `cells` is 0 for a point, else `first << 8 | count`, counted in batches; `near` holds codes, the nearest first, and
    the first repeated to fill the last batch of a cell.
    """

    codes: NDArray[np.uint16]
    index: NDArray[np.uint16]
    cells: NDArray[np.uint32]
    near: NDArray[np.uint16]


def tables(name: str) -> Tables:
    """Build the tables of a grid."""
    found = lattice(name, DISTANCES[name])
    codes = _codes(name, grid_levels(name))
    off = np.flatnonzero(found.point < 0)
    batches = -(-found.count[off] // BATCH)
    first = np.cumsum(batches) - batches
    index, cells = (np.zeros(1 << 2 * 8 if GRIDS[name][1] == 8 else 1 << 3 * 4, t) for t in (np.uint16, np.uint32))
    index[codes] = np.arange(len(codes))
    cells[_codes(name, off[:, None] // found.place % len(GRIDS[name][0]))] = first << 8 | batches
    row, place = (
        np.repeat(off, batches * BATCH),
        np.arange(batches.sum() * BATCH) - np.repeat(first, batches * BATCH) * BATCH,
    )
    near = found.neighbours[row, np.where(place < found.count[row], place, 0)]
    return Tables(codes, index, cells, codes[near])


def _codes(name: str, levels: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the codes of (n, coordinates) levels."""
    bits = 2 if levels.shape[1] == 8 else 3
    codes: NDArray[np.uint16] = (
        (levels.astype(np.int64) << bits * np.arange(levels.shape[1])).sum(axis=1).astype(np.uint16)
    )
    return codes
