"""The searches for block scales that ggml's K types use, over many groups at once. It knows no block layout.

Arrays are (elements, groups): a group is a column, and sums run down the rows one after the other, in ggml's order of
additions, so that results are equal to the last bit.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from puna.quants.codec import Bytes, Floats

SMALLEST = np.float32(1e-15)
"""A group (or block) whose largest magnitude is below this counts as zero."""


def nearest(values: Floats) -> NDArray[np.int32]:
    """Round to the nearest integer, ties to even, by ggml's trick on the bits of F32 (wraps outside +-2**22)."""
    bits = (values + np.float32(12582912)).view(np.int32)
    bits &= 0x7FFFFF
    bits -= 0x400000
    return bits


def sequential_sum(rows: Floats) -> Floats:
    """Sum down the rows of (elements, groups) in order, each step rounded to F32: (groups,)."""
    if rows.shape[1] == 1:
        # numpy would sum a single column pairwise
        last: Floats = np.add.accumulate(rows, axis=0)[-1]
        return last
    total: Floats = np.add.reduce(rows, axis=0)
    return total


def lowest(x: Floats) -> Floats:
    """Return the minimum of each column; where it is zero, the first zero with its sign, as a sequential scan."""
    low: Floats = x.min(axis=0)
    columns = np.flatnonzero(low == 0)
    if columns.size:
        low[columns] = x[(x[:, columns] == 0).argmax(axis=0), columns]
    return low


class Found(Protocol):
    """What a search found for groups `x`: their scales, and the quants it had in mind."""

    x: Floats
    scale: Floats

    def quants(self, groups: NDArray[np.bool_]) -> Bytes:
        """Return the quants of the chosen groups as the search left them, from 0 up: (elements, chosen)."""
        ...


@dataclass
class Levels:
    """A scale and the quants themselves."""

    x: Floats
    scale: Floats
    levels: Bytes

    def quants(self, groups: NDArray[np.bool_]) -> Bytes:
        """Return the quants of the chosen groups."""
        return self.levels[:, groups]


@dataclass
class Fit:
    """x ~ scale * q - minimum, where q is inverse * (x - base) rounded to lie within `bounds`."""

    x: Floats
    scale: Floats
    minimum: Floats
    inverse: Floats
    base: Floats
    bounds: tuple[int, int]
    empty: NDArray[np.bool_]

    def quants(self, groups: NDArray[np.bool_]) -> Bytes:
        """Return the quants of the chosen groups, computed again."""
        low, high = self.bounds
        exact = nearest(self.inverse[groups] * (self.x[:, groups] - self.base[groups]))
        found = np.clip(exact, low, high) - low
        found[:, self.empty[groups]] = 0
        return found.astype(np.uint8)


def grid(x: Floats, inverse: Floats, low: int, high: int, out: Floats) -> Floats:
    """Return clip(nearest(inverse * x)) as floats, in `out`; `x` has its base already subtracted."""
    np.multiply(x, inverse, out=out)
    return rounded(out, low, high)


def rounded(values: Floats, low: int, high: int) -> Floats:
    """Round and clip in place."""
    peak = np.maximum(values.max(), -values.min())
    if peak < 4194303:
        np.rint(values, out=values)
    else:
        values[...] = nearest(values)
    np.maximum(values, np.float32(low), out=values)
    return np.minimum(values, np.float32(high), out=values)


def affine_fit(x: Floats, w: Floats, top: int, steps: tuple[float, float, int], absolute: bool = False) -> Fit:
    """Find scale and minimum >= 0 of each group such that the w-weighted square error of quants 0..top is small.

    `steps` (first, step, count) are the shifts of the number of levels that are tried, as in ggml's make_qkx2_quants;
    `absolute` compares them by their absolute errors.
    """
    low, high = lowest(x), x.max(axis=0)
    low[low > 0] = 0
    empty = high == low
    span = np.where(empty, np.float32(1), high - low)
    inverse = np.float32(top) / span
    fit = Fit(x, np.float32(1) / inverse, low, inverse, low.copy(), (0, top), empty)
    sum_w, sum_x = sequential_sum(w), sequential_sum(w * x)
    q, spare = np.empty_like(x), np.empty_like(x)
    grid(np.subtract(x, low, out=spare), inverse, 0, top, q)
    best = total_error(x, w, q, fit.scale, low, spare, absolute)
    best[empty] = -1
    for shift in _shifts(steps, top):
        inverse = shift / (high - fit.minimum)
        grid(np.subtract(x, fit.minimum, out=spare), inverse, 0, top, q)
        scale, minimum, solvable = _least_squares(x, w, q, sum_w, sum_x, spare)
        error = total_error(x, w, q, scale, minimum, spare, absolute)
        better = solvable & (error < best)
        for kept, new in ((fit.base, fit.minimum), (fit.inverse, inverse), (fit.scale, scale), (best, error)):
            np.copyto(kept, new, where=better)
        np.copyto(fit.minimum, minimum, where=better)
    fit.scale[empty] = 0
    np.negative(fit.minimum, out=fit.minimum)
    return fit


def _shifts(steps: tuple[float, float, int], top: int) -> list[np.float32]:
    first, step, count = steps
    return [np.float32(first) + np.float32(step) * np.float32(i) + np.float32(top) for i in range(count + 1)]


def total_error(
    x: Floats, w: Floats, q: Floats, scale: Floats, minimum: Floats, spare: Floats, absolute: bool
) -> Floats:
    """Return the w-weighted sum of (scale * q + minimum - x) ** 2, or its magnitude, of each group, through `spare`."""
    np.multiply(q, scale, out=spare)
    spare += minimum
    spare -= x
    np.abs(spare, out=spare) if absolute else np.multiply(spare, spare, out=spare)
    spare *= w
    return sequential_sum(spare)


def _least_squares(
    x: Floats, w: Floats, q: Floats, sum_w: Floats, sum_x: Floats, spare: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return the best scale and minimum <= 0 for quants q, and where there is one; `spare` is overwritten."""
    weighted = w * q
    sum_q = sequential_sum(weighted)
    sum_q2 = sequential_sum(np.multiply(weighted, q, out=spare))
    sum_xq = sequential_sum(np.multiply(weighted, x, out=spare))
    determinant = sum_w * sum_q2 - sum_q * sum_q
    scale = (sum_w * sum_xq - sum_x * sum_q) / determinant
    minimum = (sum_q2 * sum_x - sum_q * sum_xq) / determinant
    above = minimum > 0
    minimum[above] = 0
    np.divide(sum_xq, sum_q2, out=scale, where=above)
    return scale, minimum, determinant > 0


def symmetric_fit(x: Floats, w: Floats | None, top: int) -> Fit:
    """Find the scale of each group such that the w-weighted square error of quants -top..top - 1 is small.

    Without `w` each value is weighted by its square. As ggml's make_qx_quants.
    """
    magnitude = np.abs(x)
    first = magnitude.argmax(axis=0)[None]
    empty = np.take_along_axis(magnitude, first, axis=0)[0] < SMALLEST
    extreme = np.where(empty, np.float32(1), np.take_along_axis(x, first, axis=0)[0])
    w = x * x if w is None else w
    wx, q, spare = w * x, np.empty_like(x), np.empty_like(x)
    inverse = np.float32(-top) / extreme
    fit = Fit(
        x, np.zeros_like(inverse), np.zeros_like(inverse), inverse, np.zeros_like(inverse), (-top, top - 1), empty
    )
    best = np.zeros_like(inverse)
    for i in (0, *range(-9, 0), *range(1, 10)):
        inverse = -(np.float32(top) + np.float32(0.1) * np.float32(i)) / extreme
        grid(x, inverse, -top, top - 1, q)
        sum_xq = sequential_sum(np.multiply(wx, q, out=spare))
        np.multiply(w, q, out=spare)
        sum_q2 = sequential_sum(np.multiply(spare, q, out=spare))
        better = (sum_q2 > 0) & (sum_xq * sum_xq > best * sum_q2) if i else sum_q2 != 0
        np.divide(sum_xq, sum_q2, out=fit.scale, where=better)
        np.multiply(fit.scale, sum_xq, out=best, where=better)
        np.copyto(fit.inverse, inverse, where=better)
    fit.scale[empty] = 0
    return fit


def positive_fit(x: Floats, w: Floats, top: int) -> tuple[Floats, Bytes]:
    """Find one scale for each column of positive values with quants 0..top: (scale (n,), quants (n, elements)).

    As ggml's make_qp_quants: a search for the w-weighted error, then five rounds of moving one quant at a time.
    """
    peak = x.max(axis=0)
    empty = peak < SMALLEST
    peak = np.where(empty, np.float32(1), peak)
    chosen = np.float32(top) / peak
    best = _scale_error(x, w, chosen, None)
    for i in (*range(-4, 0), *range(1, 5)):
        inverse = (np.float32(0.1) * np.float32(i) + np.float32(top)) / peak
        error = _scale_error(x, w, inverse, top)
        better = error < best
        np.copyto(best, error, where=better)
        np.copyto(chosen, inverse, where=better)
    quants = np.minimum(nearest(chosen * x), top)
    sums = sequential_sum(w * x * quants.astype(np.float32)), sequential_sum(_weighted_square(w, quants))
    quants &= 255  # ggml keeps them as bytes: the quant of a negative value, which should not be, wraps
    for _ in range(5):
        for row in range(len(x)):
            _improve(x[row], w[row], quants[row], sums, None, top)
    scale = np.divide(sums[0], sums[1], where=sums[1] > 0, out=np.zeros_like(peak))
    scale[empty] = 0
    quants[:, empty] = 0
    return scale, np.ascontiguousarray(quants.T).astype(np.uint8)


def _weighted_square(w: Floats, q: NDArray[Any]) -> Floats:
    as_float = q.astype(np.float32)
    square: Floats = w * as_float * as_float
    return square


def _scale_error(x: Floats, w: Floats, inverse: Floats, top: int | None) -> Floats:
    q = nearest(inverse * x)
    q = q & 255 if top is None else np.minimum(q, top)  # a byte in ggml, as below
    difference = x - np.float32(1) / inverse * q.astype(np.float32)
    total: Floats = sequential_sum(w * difference * difference)
    return total


def _improve(
    x: Floats, w: Floats, q: NDArray[np.int32], sums: tuple[Floats, Floats], low: int | None, top: int
) -> None:
    """Move one quant of every column to its best value where that fits better; `q` and `sums` change in place."""
    sum_xq, sum_q2 = sums
    old = q.astype(np.float32)
    xq: Floats = sum_xq - w * x * old
    q2: Floats = sum_q2 - w * old * old
    moved = np.clip(nearest(x * q2 / xq), low, top)
    new = moved.astype(np.float32)
    possible = (xq > 0) & (moved != q)
    if low is None:
        possible &= q2 > 0
    xq, q2 = xq + w * x * new, q2 + w * new * new
    better = possible & (q2 > 0) & (xq * xq * sum_q2 > sum_xq * sum_xq * q2)
    np.copyto(q, moved if low is not None else moved & 255, where=better)
    np.copyto(sum_xq, xq, where=better)
    np.copyto(sum_q2, q2, where=better)


def stepwise_fit(x: Floats, top: int) -> Levels:
    """Find the scale of each group by moving one quant of -top..top - 1 at a time, five rounds; weights are squares.

    As ggml's make_q3_quants.
    """
    magnitude = np.abs(x)
    first = magnitude.argmax(axis=0)[None]
    empty = np.take_along_axis(magnitude, first, axis=0)[0] < SMALLEST
    extreme = np.where(empty, np.float32(1), np.take_along_axis(x, first, axis=0)[0])
    quants = np.clip(nearest(np.float32(-top) / extreme * x), -top, top - 1)
    w = x * x
    sums = sequential_sum(w * x * quants.astype(np.float32)), sequential_sum(_weighted_square(w, quants))
    for _ in range(5):
        for row in range(len(x)):
            _improve(x[row], w[row], quants[row], sums, -top, top - 1)
    scale = np.divide(sums[0], sums[1], where=sums[1] > 0, out=np.zeros_like(extreme))
    scale[empty] = 0
    quants += top
    quants[:, empty] = 0
    return Levels(x, scale, quants.astype(np.uint8))
