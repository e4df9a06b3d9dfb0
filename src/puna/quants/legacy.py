"""Blocks of 32 with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. Byte for byte what ggml's reference functions write.

Element j of a block sits in byte j % 16 of `qs`: the low nibble for j < 16, the high nibble for the rest.
A block whose scale is so small that 1 / scale overflows gets quants of 0, as x86's conversion of inf gives ggml.
"""

# ruff: noqa: D102, N801 - `decode` and `encode` are described by Codec; a class is named as its type

from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import dtypes
from puna.quants.codec import Blocks, Bytes, Codec, Floats, join_bits, reciprocal, split_bits, to_half
from puna.quants.search import affine_fit, lowest, symmetric_fit


def signed_extreme(values: Floats) -> Floats:
    """Return, of each row, the first value of the largest magnitude: (n, 1); +0 for a row of zeros."""
    magnitude = np.abs(values)
    extreme = np.take_along_axis(values, magnitude.argmax(axis=1, keepdims=True), axis=1)
    extreme[extreme == 0] = 0
    return extreme


def quants_of(values: Floats, scale: Floats, offset: float, top: int) -> Bytes:
    """Divide `values` (n, 32) by `scale` (n, 1), add `offset`, drop fractions: quants 0..top. Overwrites `values`."""
    inverse = reciprocal(scale)
    tiny = np.isinf(inverse[:, 0])
    if tiny.any():
        inverse[tiny] = 0
    values *= inverse
    values += np.float32(offset)
    quants = np.minimum(values, np.float32(top), out=values).astype(np.uint8)
    quants[tiny] = 0
    return quants


def halves(quants: Bytes) -> Bytes:
    """Pack quants (n, 32) of four bits into (n, 16) bytes."""
    return join_bits(quants.reshape(-1, 2, 16), 4)


def fifth_bits(quants: Bytes) -> Bytes:
    """Pack bit 4 of quants (n, 32) into (n, 4) bytes: element j is bit j of a little-endian 32-bit word."""
    return np.packbits(quants >> 4, axis=1, bitorder="little")


def five_bits(blocks: Blocks) -> Bytes:
    """Return quants (n, 32) from the fields `qs` and `qh`."""
    quants = split_bits(blocks["qs"], 4).reshape(-1, 32)
    quants |= np.unpackbits(blocks["qh"], axis=1, bitorder="little") << np.uint8(4)
    return quants


def widen(half: NDArray[Any]) -> Floats:
    """Return scales (n,) of F16 as an F32 column (n, 1)."""
    return half.astype(np.float32)[:, None]


class Q4_0(Codec):
    """Four bits around zero: x = d * (q - 8), the extreme value of the block is -8 d.

    byte 0   2                18
         | d | qs (16 x 2 q)  |      d: F16
    """

    dtype = dtypes.Q4_0
    layout = np.dtype([("d", "<f2"), ("qs", "u1", (16,))])
    weighted = True
    by_row = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        quants = split_bits(blocks["qs"], 4).reshape(-1, 32).view(np.int8) - np.int8(8)
        np.multiply(quants, widen(blocks["d"]), out=out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        out["qs"] = halves(symmetric_quants(values, weights, 8, out))
        return out


class Q4_1(Codec):
    """Four bits from a minimum: x = d * q + m.

    byte 0   2   4                20
         | d | m | qs (16 x 2 q)  |      d, m: F16
    """

    dtype = dtypes.Q4_1
    layout = np.dtype([("d", "<f2"), ("m", "<f2"), ("qs", "u1", (16,))])
    weighted = True
    by_row = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.multiply(split_bits(blocks["qs"], 4).reshape(-1, 32), widen(blocks["d"]), out=out)
        out += widen(blocks["m"])

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        out["qs"] = halves(affine_quants(values, weights, 15, out))
        return out


class Q5_0(Codec):
    """Five bits around zero: x = d * (q - 16).

    byte 0   2    6                22
         | d | qh | qs (16 x 2 q)  |      d: F16; qh: bit j is bit 4 of element j
    """

    dtype = dtypes.Q5_0
    layout = np.dtype([("d", "<f2"), ("qh", "u1", (4,)), ("qs", "u1", (16,))])
    weighted = True
    by_row = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.multiply(five_bits(blocks).view(np.int8) - np.int8(16), widen(blocks["d"]), out=out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        quants = symmetric_quants(values, weights, 16, out)
        out["qh"], out["qs"] = fifth_bits(quants), halves(quants & 15)
        return out


class Q5_1(Codec):
    """Five bits from a minimum: x = d * q + m.

    byte 0   2   4    8                24
         | d | m | qh | qs (16 x 2 q)  |      d, m: F16; qh: bit j is bit 4 of element j
    """

    dtype = dtypes.Q5_1
    layout = np.dtype([("d", "<f2"), ("m", "<f2"), ("qh", "u1", (4,)), ("qs", "u1", (16,))])
    weighted = True
    by_row = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.multiply(five_bits(blocks), widen(blocks["d"]), out=out)
        out += widen(blocks["m"])

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        quants = affine_quants(values, weights, 31, out)
        out["qh"], out["qs"] = fifth_bits(quants), halves(quants & 15)
        return out


class Q8_0(Codec):
    """Eight bits around zero: x = d * q, the largest magnitude of the block is 127 d.

    byte 0   2                  34
         | d | qs (32 signed)   |      d: F16
    """

    dtype = dtypes.Q8_0
    layout = np.dtype([("d", "<f2"), ("qs", "i1", (32,))])

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.multiply(blocks["qs"], widen(blocks["d"]), out=out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
        out = np.empty(len(values), cls.layout)
        out["d"] = to_half(scale)[:, 0]
        inverse = reciprocal(scale)
        inverse[np.isinf(inverse)] = 0
        values *= inverse
        whole = np.trunc(values)
        # ties go away from zero, as C's roundf: values - whole is exact, so is its double
        out["qs"] = whole + np.trunc(np.float32(2) * (values - whole))
        return out


def symmetric_quants(values: Floats, weights: Floats | None, top: int, out: Blocks) -> Bytes:
    """Store `d` into `out` and return the quants 0..2 top - 1 around `top`. Overwrites `values`."""
    if weights is not None:
        fit = symmetric_fit(columns(values), columns(weights), top)
        out["d"] = to_half(fit.scale)
        return fit.quants(np.ones(len(values), bool)).T
    scale = signed_extreme(values) / np.float32(-top)
    out["d"] = to_half(scale)[:, 0]
    return quants_of(values, scale, top + 0.5, 2 * top - 1)


def affine_quants(values: Floats, weights: Floats | None, top: int, out: Blocks) -> Bytes:
    """Store `d` and `m` into `out` and return the quants 0..top. Overwrites `values`."""
    if weights is not None:
        fit = affine_fit(columns(values), columns(weights), top, (-0.9, 0.05, 36))
        out["d"], out["m"] = to_half(fit.scale), to_half(-fit.minimum)
        return fit.quants(np.ones(len(values), bool)).T
    low = lowest(values.T)[:, None]
    scale = (values.max(axis=1, keepdims=True) - low) / np.float32(top)
    scale[scale == 0] = 0  # never -0, whichever zero numpy took for the maximum
    out["d"], out["m"] = to_half(scale)[:, 0], to_half(low)[:, 0]
    values -= low
    return quants_of(values, scale, 0.5, top)


def columns(values: Floats) -> Floats:
    """Return the transpose, contiguous: what the searches take."""
    return np.ascontiguousarray(values.T)
