"""The search that ggml's IQ1_S and IQ1_M use, over many groups at once. It knows no block layout.

Values become three levels, -1, 0 and 1, all shifted by 1/8 up or down. Sorted values are cut at two places; every pair
of cuts and both shifts are tried. Then runs of 8 levels that are no grid point are replaced by a neighbour.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puna.quants.codec import Bytes, Floats
from puna.quants.iq_search import SLICE, Integers, closest, lattice
from puna.quants.search import sequential_sum

SHIFT = np.float32(0.125)


@dataclass
class Cuts:
    """The best so far of each group: scale, score, the two cuts and the signs of the shift (a code; 0: none found)."""

    scale: Floats
    score: Floats
    cuts: Integers
    signs: Integers

    def improve(self, sum_xq: Floats, sum_q2: Floats, cuts: tuple[int, int], signs: int) -> None:
        """Take these cuts where they fit better than those known."""
        better = np.flatnonzero((sum_xq * sum_xq > self.score * sum_q2) & (sum_q2 > 0))
        if better.size:
            scale = sum_xq[better] / sum_q2[better]
            self.scale[better], self.score[better] = scale, scale * sum_xq[better]
            self.cuts[0, better], self.cuts[1, better] = cuts
            self.signs[better] = signs


Trial = Callable[[int, Cuts], None]
"""Tries a first cut together with every second one and all signs."""


def ternary_fit(x: Floats, w: Floats, parts: int) -> tuple[Floats, Bytes, Integers]:
    """Return of each group its scale, its levels 0..2 (elements, groups), and the code of its signs; 0 for no fit.

    Each of the `parts` (1 or 2) of a group has its own shift. Code 1 is up (up, up), then up-down, down-up, and down.
    """
    order = x.argsort(axis=0, kind="stable")
    sorted_x, sorted_w = np.take_along_axis(w * x, order, axis=0), np.take_along_axis(w, order, axis=0)
    trial = whole_trial(sorted_x, sorted_w) if parts == 1 else halves_trial(sorted_x, sorted_w, order >= len(x) // 2)
    groups = x.shape[1]
    lowest = np.full(groups, np.finfo(np.float32).min)
    best = Cuts(np.zeros(groups, np.float32), lowest, np.zeros((2, groups), np.intp), np.zeros(groups, np.intp))
    for first in range(len(x) + 1):
        trial(first, best)
    rank = np.arange(len(x))[:, None]
    levels = np.empty(x.shape, np.uint8)
    np.put_along_axis(levels, order, (rank >= best.cuts[0]).astype(np.uint8) + (rank >= best.cuts[1]), axis=0)
    negative = best.scale < 0
    levels[:, negative] = 2 - levels[:, negative]
    return np.abs(best.scale), levels, np.where(negative, 2**parts + 1 - best.signs, best.signs)


def running(rows: Floats) -> Floats:
    """Return the sums of the first 0, 1, 2 ... rows."""
    sums = np.zeros((len(rows) + 1, rows.shape[1]), np.float32)
    np.add.accumulate(rows, axis=0, out=sums[1:])
    return sums


def whole_trial(wx: Floats, w: Floats) -> Trial:
    """Prepare the trial of one shift for all; arguments are in the order of the values."""
    totals = running(wx), running(w)

    def trial(first: int, best: Cuts) -> None:
        sums = [[cut_sums(t, first, shift, power) for power, t in enumerate(totals, 1)] for shift in (SHIFT, -SHIFT)]
        for second in range(first, len(wx) + 1):
            for code, (sum_xq, sum_q2) in enumerate(sums, 1):
                best.improve(sum_xq[second - first], sum_q2[second - first], (first, second), code)

    return trial


def cut_sums(total: Floats, first: int, shift: np.float32, power: int) -> Floats:
    """Return the sum of each group times level ** power for the first cut and every second one: (cuts, groups)."""
    parts = [(total[first] - total[0])[None], total[first:] - total[first], total[-1] - total[first:]]
    for _ in range(power):
        parts = [part * (np.float32(level) + shift) for level, part in zip((-1, 0, 1), parts, strict=True)]
    together: Floats = parts[0] + parts[1] + parts[2]
    return together


def halves_trial(wx: Floats, w: Floats, second_half: NDArray[np.bool_]) -> Trial:
    """Prepare the trial of one shift per half; arguments are in the order of the values."""
    halves = [(running(np.where(half, wx, 0)), running(np.where(half, w, 0))) for half in (~second_half, second_half)]

    def trial(first: int, best: Cuts) -> None:
        sums = [[half_sums(*half, first, shift) for shift in (SHIFT, -SHIFT)] for half in halves]
        pairs = [(a[0] + b[0], a[1] + b[1]) for a in sums[0] for b in sums[1]]
        for second in range(first, len(wx) + 1):
            for code, (sum_xq, sum_q2) in enumerate(pairs, 1):
                best.improve(sum_xq[second - first], sum_q2[second - first], (first, second), code)

    return trial


def half_sums(sum_x: Floats, sum_w: Floats, first: int, shift: np.float32) -> tuple[Floats, Floats]:
    """Return the sums of x * q and q * q for the first cut and every second one: (cuts, groups) each."""
    low, middle, high = np.float32(-1) + shift, shift, np.float32(1) + shift
    sum_xq = sum_x[-1] * high - (sum_x[first] + sum_x[first:])
    sum_q2 = sum_w[-1] * high * high + sum_w[first] * (low * low - middle * middle)
    return sum_xq, sum_q2 + sum_w[first:] * (middle * middle - high * high)


def to_grid(x: Floats, w: Floats, scale: Floats, levels: Bytes, shift: Floats) -> tuple[Integers, Floats]:
    """Return the grid points of runs of 8 levels (runs, groups), and the scale, again where a run was off the grid.

    `shift` (runs, groups) is what is added to the levels -1, 0, 1.
    """
    grid = lattice("IQ1_S", 3)
    shape = (-1, 8, x.shape[1])
    cell = np.einsum("rcg,c->rg", levels.reshape(shape).astype(np.intp), grid.place)
    index = grid.point[cell]
    run, group = np.nonzero(index < 0)
    coordinates = (grid.odd - np.float32(3)) / np.float32(2)
    for start in range(0, len(run), SLICE):
        r, g = run[start : start + SLICE], group[start : start + SLICE]
        columns = x.reshape(shape)[r, :, g].T, w.reshape(shape)[r, :, g].T, scale[g]
        index[r, g] = closest(grid, coordinates, cell[r, g], *columns, shift[r, g])
    again = np.zeros(x.shape[1], bool)
    again[group] = True
    q = (np.moveaxis(coordinates[:, index], 0, 1) + shift[:, None]).reshape(x.shape)
    sum_xq, sum_q2 = sequential_sum(w * q * x), sequential_sum(w * q * q)
    again &= (sum_xq > 0) & (sum_q2 > 0)
    return index, np.divide(sum_xq, sum_q2, out=scale.copy(), where=again)
