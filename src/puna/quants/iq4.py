"""IQ4_NL and IQ4_XS: four bits that name one of 16 uneven levels. Byte for byte what ggml's functions write."""

# ruff: noqa: D102, N801 - `decode` and `encode` are described by Codec; a class is named as its type

import numpy as np

from puna.dtypes import DTYPES
from puna.quants.codec import Blocks, Bytes, Codec, Floats, join_bits, reciprocal, split_bits, to_half
from puna.quants.iq_tables import LEVELS
from puna.quants.k import by_group
from puna.quants.search import SMALLEST, nearest, sequential_sum

# All midpoints between levels are multiples of 1/2, so which level is nearest depends on floor(2 x) only.
CELLS = 256
NEAREST = np.searchsorted((LEVELS[1:] + LEVELS[:-1]) / 2, np.arange(-CELLS, CELLS) / 2, side="right").astype(np.uint8)
"""The index of the level nearest to x at floor(2 x) + CELLS; the upper one where two are equally near."""
NEAREST_LEVEL = LEVELS[NEAREST]
TRIES = 7


def level_fit(x: Floats, w: Floats) -> Floats:
    """Find the scale of each group (a column of `x`) such that the w-weighted square error is small: (groups,)."""
    magnitude = np.abs(x)
    first = magnitude.argmax(axis=0)[None]
    empty = np.take_along_axis(magnitude, first, axis=0)[0] < SMALLEST
    extreme = np.where(empty, np.float32(1), np.take_along_axis(x, first, axis=0)[0])
    q, cell = np.empty_like(x), np.empty(x.shape, np.intp)
    scale, best = np.zeros_like(extreme), np.zeros_like(extreme)
    for shift in (None, *range(-TRIES, TRIES + 1)):
        if shift is None:
            inverse = np.float32(1) / (extreme / -LEVELS[0])
        else:
            inverse = (np.float32(shift) + LEVELS[0]) / extreme
        snap(x, inverse, q, cell)
        wq = w * q
        sum_q2 = sequential_sum(np.multiply(wq, q, out=q))
        sum_xq = sequential_sum(np.multiply(wq, x, out=wq))
        better = sum_q2 > 0
        if shift is not None:
            better &= sum_xq * sum_xq > best * sum_q2
        np.divide(sum_xq, sum_q2, out=scale, where=better)
        np.multiply(scale, sum_xq, out=best, where=better)
    scale[empty] = 0
    return scale


def snap(x: Floats, inverse: Floats, q: Floats, cell: Bytes) -> None:
    """Write into `q` the levels nearest to inverse * x, which is small and finite; `cell` is working space."""
    np.multiply(x, inverse + inverse, out=q)
    np.floor(q, out=q)
    np.copyto(cell, q, casting="unsafe")
    cell += CELLS
    np.take(NEAREST_LEVEL, cell, out=q, mode="clip")


def quants_of(x: Floats, inverse: Floats) -> Bytes:
    """Return the quants whose levels are nearest to inverse * x, of any size; NaN counts as large: (groups, 32)."""
    scaled = np.fmin(x * inverse, np.float32(CELLS / 2 - 1))
    np.maximum(scaled, np.float32(-CELLS / 2), out=scaled)
    cell = np.floor(scaled + scaled).astype(np.intp)
    cell += CELLS
    return np.ascontiguousarray(NEAREST[cell].T)


def weights_of(values: Floats, weights: Floats | None) -> Floats:
    """Return the weights of ggml's search: x^2, or importance times sqrt(2 * mean square of the block + x^2)."""
    square: Floats = values * values
    if weights is None:
        return square
    mean = sequential_sum(np.ascontiguousarray(square.T)) * np.float32(2 / values.shape[1])
    weighted: Floats = weights * np.sqrt(mean[:, None] + square)
    return weighted


class IQ4_NL(Codec):
    """Four bits: x = d * level[q].

    byte 0   2                18
         | d | qs (16 x 2 q)  |      d: F16; element j in the low nibble of byte j, j + 16 in the high one
    """

    dtype = DTYPES["IQ4_NL"]
    layout = np.dtype([("d", "<f2"), ("qs", "u1", (16,))])
    weighted = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.take(LEVELS, split_bits(blocks["qs"], 4).reshape(-1, 32), out=out, mode="clip")
        out *= blocks["d"].astype(np.float32)[:, None]

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        x = by_group(values, 32)
        scale = level_fit(x, by_group(weights_of(values, weights), 32))
        out["d"] = to_half(scale)
        out["qs"] = join_bits(quants_of(x, reciprocal(scale)).reshape(-1, 2, 16), 4)
        return out


class IQ4_XS(Codec):
    """Four bits in 8 groups of 32: x = d * (scale - 32) * level[q].

    byte 0   2          4              8                    136
         | d | scales_h | scales_l (4) | qs (8 x 16 x 2 q)  |
    d: F16; scale: bits 0..3 in a nibble of scales_l, bits 4, 5 in scales_h (u16), lowest first; qs as in IQ4_NL
    """

    dtype = DTYPES["IQ4_XS"]
    layout = np.dtype([("d", "<f2"), ("scales_h", "<u2"), ("scales_l", "u1", (4,)), ("qs", "u1", (8, 16))])
    weighted = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.take(LEVELS, split_bits(blocks["qs"], 4).reshape(-1, 256), out=out, mode="clip")
        low = blocks["scales_l"][:, :, None] >> np.array([0, 4], np.uint8) & 15
        high = blocks["scales_h"][:, None] >> np.arange(0, 16, 2, dtype=np.uint16) & 3
        scales = (low.reshape(-1, 8) | high << 4).astype(np.float32) - np.float32(32)
        groups = out.reshape(-1, 8, 32)
        groups *= (blocks["d"].astype(np.float32)[:, None] * scales)[:, :, None]

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        x = by_group(values, 32)
        scale = level_fit(x, by_group(weights_of(values, weights), 32)).reshape(-1, 8)
        unit = np.take_along_axis(scale, np.abs(scale).argmax(axis=1, keepdims=True), axis=1) / np.float32(-32)
        factors = np.clip(nearest(reciprocal(unit) * scale), -32, 31)
        step = unit * factors.astype(np.float32)
        quants = quants_of(x, reciprocal(step).reshape(-1))
        stored = (factors + 32).astype(np.uint16)
        out["d"] = to_half(unit)[:, 0]
        out["scales_h"] = np.bitwise_or.reduce(stored >> 4 << np.arange(0, 16, 2, dtype=np.uint16), axis=1)
        out["scales_l"] = (stored[:, ::2] & 15) | (stored[:, 1::2] & 15) << 4
        out["qs"] = join_bits(quants.reshape(-1, 8, 2, 16), 4)
        return out
