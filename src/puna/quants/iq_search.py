"""The search for grid points that ggml's IQ2 and IQ3 types use, over many groups at once. It knows no block layout.

Arrays are (elements, groups) as in `search`, so that results are equal to the last bit. A level l counts as 2 l + 1.
A point that is not on the grid is replaced by one of its neighbours there: the grid points at the few smallest
distances from it, of which the one with the least weighted error is taken.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.quants.codec import Bytes, Floats, to_half
from puna.quants.iq_tables import GRIDS, grid_levels
from puna.quants.k import by_group, spread_weights
from puna.quants.search import SMALLEST, nearest, positive_fit, sequential_sum

Integers = NDArray[Any]
"""An array of indices."""

SLICE = 512
"""Points whose neighbours are compared at once."""


@dataclass(frozen=True)
class Lattice:
    """A grid: its points as odd numbers (coordinates, points), and what each cell (a code) of the full lattice has.

    `point` is the grid point of a cell, or -1; `neighbours` (cells, most) those of a cell that has none, the nearest
    first, the first repeated to fill; `count` how many there are.
    """

    odd: Floats
    place: Integers
    point: Integers
    neighbours: Integers
    count: Integers


@cache
def lattice(name: str, distances: int) -> Lattice:
    """Build the lattice of a grid; neighbours are the points at the `distances` smallest distances."""
    points = grid_levels(name).astype(np.int16)
    levels, coordinates, _ = GRIDS[name]
    place = len(levels) ** np.arange(coordinates)
    cells = (np.arange(len(levels) ** coordinates)[:, None] // place % len(levels)).astype(np.int16)
    point = np.full(len(cells), -1, np.int16)
    point[points @ place] = np.arange(len(points))
    found = [_neighbours(part, points, distances) for part in np.array_split(cells, 16)]
    most = max(order.shape[1] for order, _ in found)
    order = np.concatenate([np.pad(order, ((0, 0), (0, most - order.shape[1]))) for order, _ in found])
    count = np.concatenate([count for _, count in found])
    order = np.where(np.arange(most) < count[:, None], order, order[:, :1])
    return Lattice((2 * points.T + 1).astype(np.float32), place, point, order, count)


def _neighbours(cells: Integers, points: Integers, distances: int) -> tuple[Integers, Integers]:
    """Return the points by distance from each cell, cut to the longest list, and how many count: (n, most), (n,)."""
    square = np.zeros((len(cells), len(points)), np.int16)
    for axis in range(points.shape[1]):
        square += (cells[:, axis, None] - points[:, axis]) ** 2
    order = square.argsort(axis=1, kind="stable").astype(np.int16)
    ranked = np.take_along_axis(square, order, axis=1)
    rank = np.cumsum(np.diff(ranked, axis=1, prepend=ranked[:, :1]) > 0, axis=1)
    count = (rank < distances).sum(axis=1)
    return order[:, : count.max()], count


@dataclass
class Points:
    """What a search found for each group: a scale, and of each of its runs the grid point and whether it is exact."""

    scale: Floats
    index: Integers
    exact: NDArray[np.bool_]


@dataclass(frozen=True)
class PointSearch:
    """How one type is encoded.

    `size` is the length of a group, `top` the largest level, `distances` as in `lattice`; scales are tried at
    `step` * -tries..tries beside the largest level. `fudge` multiplies the stored block scale. `even` makes the number
    of negative signs in 8 values even; `again` says which runs are searched once more at the best scale: all,
    all if any is off the grid, or only those off the grid.
    """

    grid: str
    size: int
    top: int
    distances: int
    tries: int
    step: float
    fudge: float = 1.0
    smallest: np.float32 = SMALLEST
    even: bool = False
    again: str = "off"

    def __call__(self, values: Floats, w: Floats) -> tuple[Floats, Bytes, Integers, Bytes]:
        """Return of n blocks: scales in F16 (n,), their factors (n, groups), points (n, runs), signs (n, 32)."""
        x, signs = split_signs(values, w, self.even)
        found, empty = self.fit(by_group(x, self.size), by_group(w, self.size))
        found.scale[empty], found.index[:, empty] = 0, 0
        signs = signs.reshape(len(empty), -1)
        signs[empty] = 0
        turned = found.scale < 0
        signs[turned] ^= 255
        scale = np.abs(found.scale).reshape(len(values), -1)
        unit, factors = block_scale(scale, 31, 15)
        none = unit == 0
        index = np.ascontiguousarray(found.index.T).reshape(len(values), -1)
        index[none] = 0
        signs = signs.reshape(len(values), 32)
        signs[none] = 0
        return to_half(unit * np.float32(self.fudge)), factors, index, signs

    def fit(self, x: Floats, w: Floats) -> tuple[Points, NDArray[np.bool_]]:
        """Find scale and points of each group with a small w-weighted error; also say which groups are empty."""
        peak = x.max(axis=0)
        empty = peak < self.smallest if self.smallest else peak == 0
        largest = np.float32(2 * self.top + 1)
        scale = np.where(empty, np.float32(1), peak) / largest
        if self.again == "all":
            scale, _ = positive_fit(x, w, self.top + 2)
            peak = scale * np.float32(self.top + 1)
            empty |= peak <= 0
        peak = np.where(empty, np.float32(1), peak)
        runs = len(x) // len(lattice(self.grid, self.distances).odd)
        found = Points(scale, np.zeros((runs, x.shape[1]), np.int16), np.full((runs, x.shape[1]), self.again == "off"))
        root, best = np.sqrt(w), np.zeros_like(scale)
        for i in range(-self.tries, self.tries + 1):
            inverse = (largest + np.float32(i) * np.float32(self.step)) / peak
            index, exact = self.snap(x, root, inverse, np.float32(1) / inverse)
            sum_xq, sum_q2 = self.sums(x, w, index)
            better = (sum_q2 > 0) & (sum_xq * sum_xq > best * sum_q2)
            np.divide(sum_xq, sum_q2, out=found.scale, where=better)
            np.multiply(found.scale, sum_xq, out=best, where=better)
            np.copyto(found.index, index, where=better)
            np.copyto(found.exact, exact, where=better)
        self.refine(x, w, root, found)
        return found, empty

    def refine(self, x: Floats, w: Floats, root: Floats, found: Points) -> None:
        """Choose points once more at the scale found, and the best scale for those."""
        chosen = found.scale > 0
        if self.again != "all":
            chosen &= ~found.exact.all(axis=0)
        if not chosen.any():
            return
        x, w, root, scale = x[:, chosen], w[:, chosen], root[:, chosen], found.scale[chosen]
        index, _ = self.snap(x, root, np.float32(1) / scale, scale)
        if self.again == "off":
            index = np.where(found.exact[:, chosen], found.index[:, chosen], index)
        sum_xq, sum_q2 = self.sums(x, w, index)
        found.scale[chosen] = np.divide(sum_xq, sum_q2, out=scale, where=sum_q2 > 0)
        found.index[:, chosen] = index

    def snap(self, x: Floats, root: Floats, inverse: Floats, scale: Floats) -> tuple[Integers, NDArray[np.bool_]]:
        """Return the grid point of each run and whether it is exact: (runs, groups) each."""
        grid = lattice(self.grid, self.distances)
        levels = np.clip(nearest(np.float32(0.5) * (inverse * x - np.float32(1))), 0, self.top)
        shape = (-1, len(grid.place), x.shape[1])
        cell = np.einsum("rcg,c->rg", levels.reshape(shape), grid.place)
        index = grid.point[cell]
        exact = index >= 0
        run, group = np.nonzero(~exact)
        order = np.argsort(grid.count[cell[run, group]], kind="stable")
        run, group = run[order], group[order]
        for start in range(0, len(run), SLICE):
            r, g = run[start : start + SLICE], group[start : start + SLICE]
            index[r, g] = closest(
                grid, grid.odd, cell[r, g], x.reshape(shape)[r, :, g].T, root.reshape(shape)[r, :, g].T, scale[g]
            )
        return index, exact

    def sums(self, x: Floats, w: Floats, index: Integers) -> tuple[Floats, Floats]:
        """Return the w-weighted sums of x * q and q * q of each group, where q are the coordinates of its points."""
        q = np.moveaxis(lattice(self.grid, self.distances).odd[:, index], 0, 1).reshape(x.shape)
        return sequential_sum(w * x * q), sequential_sum(w * q * q)


def closest(
    grid: Lattice, coordinates: Floats, cell: Integers, x: Floats, w: Floats, scale: Floats, shift: Floats | None = None
) -> Integers:
    """Return of each cell (n,) the neighbour whose w-weighted distance from `x` (axes, n) is smallest: (n,).

    A point is at scale * (coordinates + shift); `coordinates` (axes, points) are those of the grid.
    """
    near = np.ascontiguousarray(grid.neighbours[cell, : grid.count[cell].max()].T, np.intp)
    error, difference, spare = (np.zeros(near.shape, np.float32) for _ in range(3))
    for axis, x_axis, w_axis in zip(coordinates, x, w, strict=True):
        np.take(axis, near, out=difference, mode="clip")
        if shift is not None:
            difference += shift
        difference *= scale
        difference -= x_axis
        np.multiply(difference, w_axis, out=spare)
        spare *= difference
        error += spare
    best: Integers = near[error.argmin(axis=0), np.arange(len(cell))]
    return best


def block_scale(scale: Floats, largest: int, top: int) -> tuple[Floats, Bytes]:
    """Express the scales of groups (n, groups) as unit (n,) times 2 * factor + 1, where `largest` is the largest."""
    unit = scale.max(axis=1, keepdims=True) / np.float32(largest)
    factors = np.clip(nearest(np.float32(0.5) * (np.float32(1) / unit * scale - np.float32(1))), 0, top)
    factors[unit[:, 0] == 0] = 0
    return unit[:, 0], factors.astype(np.uint8)


def split_signs(values: Floats, w: Floats, even: bool) -> tuple[Floats, Bytes]:
    """Return magnitudes (n, 256), and the signs of runs of 8 as bits (n, 32).

    Where the number of minus signs has to be even and is not, the least important value gets the wrong sign: its
    magnitude is returned negative.
    """
    runs = values.reshape(-1, 8)
    negative = runs < 0
    magnitude = np.where(negative, -runs, runs)
    if even:
        odd = np.flatnonzero(np.bitwise_xor.reduce(negative, axis=1))
        least = (w.reshape(-1, 8)[odd] * runs[odd] * runs[odd]).argmin(axis=1)
        magnitude[odd, least] *= -1
        negative[odd, least] ^= True
    return magnitude.reshape(values.shape), np.packbits(negative, axis=1, bitorder="little").reshape(len(values), -1)


def weights_of(values: Floats, weights: Floats | None, spread: int) -> Floats:
    """Return importance times sqrt(spread * mean square of the block + x^2), or x^2 where there is no importance."""
    if weights is None:
        square: Floats = values * values
        return square
    return spread_weights(values, weights, spread)
