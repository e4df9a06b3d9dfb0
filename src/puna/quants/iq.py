"""Super-blocks of 256 whose values are points of a grid, with signs and scales: the IQ1, IQ2 and IQ3 types.

Runs of 8 values (of 4 in IQ3) are one grid point, named by its index; `iq_tables` has the grids, `iq_search` chooses
points. Byte for byte what ggml's functions write, save that IQ1 and IQ3_S survive groups of zeros, which ggml's do not.
"""

# ruff: noqa: D102, N801 - `decode` and `encode` are described by Codec; a class is named as its type

from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import DTYPES
from puna.quants.codec import Blocks, Bytes, Codec, Floats, to_half
from puna.quants.iq1_search import ternary_fit, to_grid
from puna.quants.iq_search import PointSearch, block_scale, weights_of
from puna.quants.iq_tables import even_signs, grid, shifted_grid, signs
from puna.quants.k import by_group
from puna.quants.search import sequential_sum

Integers = NDArray[Any]
"""An array of unsigned integers."""

SHIFT = 0.125
"""What is added to (or subtracted from) every coordinate of a point of IQ1_S and IQ1_M."""


def fields(words: Integers, bits: int, count: int) -> Integers:
    """Return the lowest `count` fields of each word (..., k), lowest bits first: (..., k, count)."""
    shifts = np.arange(0, bits * count, bits, dtype=words.dtype)
    found: Integers = (words[..., None] >> shifts) & words.dtype.type((1 << bits) - 1)
    return found


def scaled(blocks: Blocks, factors: Floats) -> Floats:
    """Return the block scale `d` times `factors` (n, ...), as (n, groups)."""
    product: Floats = blocks["d"].astype(np.float32)[:, None] * factors.reshape(len(blocks), -1)
    return product


def place(points: Floats, index: Integers, scale: Floats, out: Floats, factors: Floats | None = None) -> None:
    """Write into `out` (n, 256) the points of `index`, times the signs (n, 32, 8), times `scale` (n, groups)."""
    np.take(points, index.reshape(-1), axis=0, out=out.reshape(-1, points.shape[1]), mode="clip")
    if factors is not None:
        out *= factors.reshape(out.shape)
    grouped = out.reshape(*scale.shape, -1)
    grouped *= scale[:, :, None]


def join_fields(values: Integers, bits: int, count: int) -> Integers:
    """Undo `fields` along the last axis of (n, k * count), each value within its bits: (n, k) of 32 bits."""
    shifts = np.arange(0, bits * count, bits, dtype=np.uint32)
    joined: Integers = np.bitwise_or.reduce(values.reshape(len(values), -1, count).astype(np.uint32) << shifts, axis=2)
    return joined


def nibbles(scales: Bytes) -> Integers:
    """Pack pairs of scales of four bits, the lower nibble first."""
    return join_fields(scales, 4, 2)


def sign_words(signs: Bytes, scales: Bytes) -> Integers:
    """Return words of four times seven bits of `signs` (n, 32) and four bits of `scales` (n, 8): (n, 8)."""
    words: Integers = join_fields(signs & 127, 7, 4) | scales.astype(np.uint32) << 28
    return words


class IQ2_XXS(Codec):
    """2.06 bits: x = d * (scale + 1/2) / 4 * point * signs, in 8 groups of 32.

    byte 0   2             66
         | d | 8 x parts   |      d: F16; a part: | 4 indices (u8) | u32: 4 x 7 bits of signs, 4 bits of scale |
    """

    dtype = DTYPES["IQ2_XXS"]
    layout = np.dtype([("d", "<f2"), ("parts", [("index", "u1", (4,)), ("signs", "<u4")], (8,))])
    weighted = True
    needs_importance = True
    search = PointSearch("IQ2_XXS", 32, 2, distances=2, tries=6, step=0.1, even=True, again="all")

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        words = blocks["parts"]["signs"]
        scale = scaled(blocks, np.float32(0.5) + (words >> 28).astype(np.float32)) * np.float32(0.25)
        place(grid("IQ2_XXS"), blocks["parts"]["index"], scale, out, even_signs()[fields(words, 7, 4)])

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        d, scales, index, signs = cls.search(values, weights_of(values, weights, 1))
        out["d"], out["parts"]["index"] = d, index.reshape(-1, 8, 4)
        out["parts"]["signs"] = sign_words(signs, scales)
        return out


class IQ2_XS(Codec):
    """2.31 bits: x = d * (scale + 1/2) / 4 * point * signs, in 16 groups of 16.

    byte 0   2               66           74
         | d | qs (32 x u16) | scales (8) |      d: F16; q: 9 bits of index, 7 of signs; scales: 4 bits each
    """

    dtype = DTYPES["IQ2_XS"]
    layout = np.dtype([("d", "<f2"), ("qs", "<u2", (32,)), ("scales", "u1", (8,))])
    weighted = True
    needs_importance = True
    search = PointSearch("IQ2_XS", 16, 2, distances=2, tries=9, step=0.1, even=True)

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        qs = blocks["qs"]
        scale = scaled(blocks, np.float32(0.5) + fields(blocks["scales"], 4, 2)) * np.float32(0.25)
        place(grid("IQ2_XS"), qs & 511, scale, out, even_signs()[qs >> 9])

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        out["d"], scales, index, signs = cls.search(values, weights_of(values, weights, 1))
        out["qs"], out["scales"] = index | (signs & 127).astype(np.uint16) << 9, nibbles(scales)
        return out


class IQ2_S(Codec):
    """2.56 bits: x = d * (scale + 1/2) / 4 * point * signs, in 16 groups of 16.

    byte 0   2         34           66       74           82
         | d | qs (32) | signs (32) | qh (8) | scales (8) |
    d: F16; index: bits 0..7 in qs, bits 8, 9 of four indices in a byte of qh; scales: 4 bits each
    """

    dtype = DTYPES["IQ2_S"]
    layout = np.dtype(
        [("d", "<f2"), ("qs", "u1", (32,)), ("signs", "u1", (32,)), ("qh", "u1", (8,)), ("scales", "u1", (8,))]
    )
    weighted = True
    search = PointSearch("IQ2_S", 16, 2, distances=1, tries=9, step=0.1, fudge=0.9875, smallest=np.float32(1e-8))

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        high = fields(blocks["qh"], 2, 4).reshape(-1, 32)
        scale = scaled(blocks, np.float32(0.5) + fields(blocks["scales"], 4, 2)) * np.float32(0.25)
        place(grid("IQ2_S"), blocks["qs"] | high.astype(np.uint16) << 8, scale, out, signs()[blocks["signs"]])

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        if weights is None:
            square = values * values
            mean = sequential_sum(np.ascontiguousarray(square.T)) * np.float32(2 / 256)
            w = np.float32(0.25) * mean[:, None] + square
        else:
            w = weights_of(values, weights, 2)
        out["d"], scales, index, out["signs"] = cls.search(values, w)
        out["qs"], out["scales"] = index & 255, nibbles(scales)
        out["qh"] = join_fields(index >> 8, 2, 4)
        return out


class IQ3_XXS(Codec):
    """3.06 bits: x = d * (scale + 1/2) / 2 * point * signs, in 8 groups of 32; a point is 4 values.

    byte 0   2         66                98
         | d | qs (64) | parts (8 x u32) |      d: F16; qs: indices; part: 4 x 7 bits of signs, 4 bits of scale
    """

    dtype = DTYPES["IQ3_XXS"]
    layout = np.dtype([("d", "<f2"), ("qs", "u1", (64,)), ("parts", "<u4", (8,))])
    weighted = True
    search = PointSearch(
        "IQ3_XXS", 32, 7, distances=2, tries=15, step=0.2, fudge=1.0125, smallest=np.float32(1e-8), even=True
    )

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        words = blocks["parts"]
        scale = scaled(blocks, np.float32(0.5) + (words >> 28).astype(np.float32)) * np.float32(0.5)
        place(grid("IQ3_XXS"), blocks["qs"], scale, out, even_signs()[fields(words, 7, 4)])

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        out["d"], scales, out["qs"], signs = cls.search(values, weights_of(values, weights, 2))
        out["parts"] = sign_words(signs, scales)
        return out


class IQ3_S(Codec):
    """3.44 bits: x = d * (2 * scale + 1) * point * signs, in 8 groups of 32; a point is 4 values.

    byte 0   2         66       74           106          110
         | d | qs (64) | qh (8) | signs (32) | scales (4) |
    d: F16; index: bits 0..7 in qs, bit 8 of eight indices in a byte of qh; scales: 4 bits each
    """

    dtype = DTYPES["IQ3_S"]
    layout = np.dtype(
        [("d", "<f2"), ("qs", "u1", (64,)), ("qh", "u1", (8,)), ("signs", "u1", (32,)), ("scales", "u1", (4,))]
    )
    weighted = True
    search = PointSearch(
        "IQ3_S", 32, 7, distances=3, tries=9, step=0.2, fudge=1.033, smallest=np.float32(0), again="any"
    )

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        high = fields(blocks["qh"], 1, 8).reshape(-1, 64)
        scale = scaled(blocks, np.float32(1) + np.float32(2) * fields(blocks["scales"], 4, 2))
        place(grid("IQ3_S"), blocks["qs"] | high.astype(np.uint16) << 8, scale, out, signs()[blocks["signs"]])

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        out["d"], scales, index, out["signs"] = cls.search(values, weights_of(values, weights, 2))
        out["qs"], out["scales"] = index & 255, nibbles(scales)
        out["qh"] = join_fields(index >> 8, 1, 8)
        return out


def blank(scale: Floats, levels: Bytes, signs: Integers, empty: NDArray[np.bool_]) -> None:
    """Make zeros of groups that are empty or have no fit; ggml would leave them the first point of the grid."""
    empty |= signs == 0
    scale[empty], levels[:, empty], signs[empty] = 0, 1, 1


def runs(points: Integers, count: int) -> Integers:
    """Turn (runs, groups) into (n, count), the runs of each block in order."""
    return np.ascontiguousarray(points.T).reshape(-1, count)


class IQ1_S(Codec):
    """1.56 bits: x = d * (2 * scale + 1) * (point +- 1/8), in 8 groups of 32.

    byte 0   2         34              50
         | d | qs (32) | qh (8 x u16)  |
    d: F16; qs: bits 0..7 of an index; qh: 4 x 3 bits, bits 8..10 of four indices, 3 bits of scale, 1 bit: minus 1/8
    """

    dtype = DTYPES["IQ1_S"]
    layout = np.dtype([("d", "<f2"), ("qs", "u1", (32,)), ("qh", "<u2", (8,))])
    weighted = True
    needs_importance = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        qh = blocks["qh"]
        scale = scaled(blocks, np.float32(1) + np.float32(2) * (qh >> 12 & 7))
        high = fields(qh, 3, 4) | (qh >> 15 << 3)[:, :, None]
        place(shifted_grid("IQ1_S", SHIFT), blocks["qs"] | high.reshape(-1, 32) << 8, scale, out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        x, w = by_group(values, 32), by_group(weights_of(values, weights, 2), 32)
        scale, levels, signs = ternary_fit(x, w, 1)
        blank(scale, levels, signs, np.abs(x).max(axis=0) < np.float32(1e-12))
        shift = np.where(signs == 1, np.float32(SHIFT), np.float32(-SHIFT))
        index, scale = to_grid(x, w, scale, levels, np.broadcast_to(shift, (4, len(shift))))
        unit, factors = block_scale(scale.reshape(-1, 8), 15, 7)
        index = runs(index, 32)
        factors |= (signs.reshape(-1, 8) == 2).astype(np.uint8) << 3
        index[unit == 0], factors[unit == 0] = 0, 0
        out["d"], out["qs"] = to_half(unit * np.float32(1.125)), index & 255
        out["qh"] = join_fields(index >> 8, 3, 4) | factors.astype(np.uint16) << 12
        return out


class IQ1_M(Codec):
    """1.75 bits: x = d * (2 * scale + 1) * (point +- 1/8), in 16 groups of 16.

    byte 0         32        48                 56
         | qs (32) | qh (16) | scales (4 x u16) |
    qs: bits 0..7 of an index; qh: two nibbles each, 3 bits are bits 8..10 of an index, 1 bit: minus 1/8
    scales: 4 x 3 bits, and in the upper 4 bits a quarter of d (F16), lowest first
    """

    dtype = DTYPES["IQ1_M"]
    layout = np.dtype([("qs", "u1", (32,)), ("qh", "u1", (16,)), ("scales", "<u2", (4,))])
    weighted = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        packed = blocks["scales"]
        d = np.bitwise_or.reduce(packed >> 12 << np.arange(0, 16, 4, dtype=np.uint16), axis=1).view(np.float16)
        factors = np.float32(1) + np.float32(2) * fields(packed, 3, 4).reshape(-1, 16)
        index = blocks["qs"] | fields(blocks["qh"], 4, 2).reshape(-1, 32).astype(np.uint16) << 8
        place(shifted_grid("IQ1_S", SHIFT), index, d.astype(np.float32)[:, None] * factors, out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        weights = weights_of(values, weights, 2)
        x, w = by_group(values, 16), by_group(weights, 16)
        scale, levels, signs = ternary_fit(x, w, 2)
        blank(scale, levels, signs, np.abs(x).max(axis=0) < np.float32(1e-7))
        down = np.stack((signs > 2, signs % 2 == 0))
        shift = np.where(down, np.float32(-SHIFT), np.float32(SHIFT))
        index, scale = to_grid(x, w, scale, levels, shift)
        unit, factors = block_scale(scale.reshape(-1, 16), 15, 7)
        d = cls.best_unit(values, weights, runs(index, 32) + 2048 * runs(down, 32), factors)
        d[unit == 0] = 0
        index = runs(index | down.astype(np.int16) << 11, 32)
        index[unit == 0] = 0
        bits = to_half(d * np.float32(1.1125)).view("<u2")[:, None] >> np.arange(0, 16, 4, dtype=np.uint16) & 15
        out["qs"], out["qh"] = index & 255, join_fields(index >> 8, 4, 2)
        out["scales"] = join_fields(factors, 3, 4) | bits.astype(np.uint32) << 12
        return out

    @classmethod
    def best_unit(cls, values: Floats, weights: Floats, index: Integers, factors: Bytes) -> Floats:
        """Return the unit of the scales that fits best, for points and factors already chosen: (n,)."""
        q = np.empty(values.shape, np.float32)
        place(shifted_grid("IQ1_S", SHIFT), index, np.float32(1) + np.float32(2) * factors, q)
        wq = weights * q
        sum_xq, sum_q2 = (sequential_sum(np.ascontiguousarray((wq * other).T)) for other in (values, q))
        return np.divide(sum_xq, sum_q2, out=np.zeros_like(sum_q2), where=sum_q2 > 0)
