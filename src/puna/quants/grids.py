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
"""Neighbours that are compared at once, at most: those of a cell start at a multiple of it."""

DISTANCES = {"IQ1_S": 3, "IQ2_XXS": 2, "IQ2_XS": 2, "IQ2_S": 1, "IQ3_XXS": 2, "IQ3_S": 3}
"""Grid: how many smallest distances from a cell make a point its neighbour."""

BITS = {8: 2, 4: 3}
"""Coordinates of a point: the bits of each in a code."""


@dataclass(frozen=True)
class Tables:
    """Codes of points (points,); the point of a code, and where the neighbours of a cell are (codes,); the neighbours.

    `cells` is 0 for a point, else `first << 9 | count`: the first batch, and the number of neighbours. `near` holds the
    codes of those, the nearest first, and the first repeated to fill the last batch of a cell.
    """

    codes: NDArray[np.uint16]
    index: NDArray[np.uint16]
    cells: NDArray[np.uint32]
    near: NDArray[np.uint16]


def points(name: str) -> NDArray[np.int8]:
    """Return the coordinates of all points of a grid, one point after the other."""
    return grid(name).astype(np.int8).reshape(-1)


def tables(name: str) -> Tables:
    """Build the tables of a grid."""
    levels, coordinates, _ = GRIDS[name]
    size = 1 << BITS[coordinates] * coordinates
    found = lattice(name, DISTANCES[name])
    codes, index, cells = _codes(grid_levels(name)), np.zeros(size, np.uint16), np.zeros(size, np.uint32)
    index[codes] = np.arange(len(codes))
    off = np.flatnonzero(found.point < 0)
    batches = -(-found.count[off] // BATCH)
    first = np.cumsum(batches) - batches
    cells[_codes(off[:, None] // found.place % len(levels))] = first << 9 | found.count[off]
    filled = batches * BATCH
    cell, rank = np.repeat(off, filled), np.arange(filled.sum()) - np.repeat(first * BATCH, filled)
    near = found.neighbours[cell, np.where(rank < found.count[cell], rank, 0)]
    return Tables(codes, index, cells, codes[near])


def _codes(levels: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the codes of levels (n, coordinates)."""
    shifts = BITS[levels.shape[1]] * np.arange(levels.shape[1])
    codes: NDArray[np.uint16] = (levels.astype(np.int64) << shifts).sum(axis=1).astype(np.uint16)
    return codes
