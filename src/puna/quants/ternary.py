"""Values of one magnitude: TQ1_0 and TQ2_0 (-d, 0, d) and Q1_0 (-d, d). Byte for byte what ggml's functions write."""

# ruff: noqa: D102, N801 - `decode` and `encode` are described by Codec; a class is named as its type

import numpy as np

from puna.dtypes import DTYPES
from puna.quants.codec import Blocks, Bytes, Codec, Floats, join_bits, reciprocal, split_bits, to_half
from puna.quants.search import sequential_sum

RUNS = ((0, 32, 5), (32, 16, 5), (48, 4, 4))
"""First byte, bytes and trits per byte of each run of TQ1_0."""


def trits_of(values: Floats, out: Blocks) -> Bytes:
    """Store the largest magnitude of each row as `d` and return the quants 0, 1, 2 for -d, 0, d: (n, 256)."""
    scale = np.abs(values).max(axis=1, keepdims=True)
    out["d"] = to_half(scale)[:, 0]
    inverse = reciprocal(scale)
    inverse[np.isinf(inverse)] = 0
    values *= inverse
    quants = np.ones(values.shape, np.uint8)
    quants += values >= np.float32(0.5)
    quants -= values <= np.float32(-0.5)
    return quants


class TQ1_0(Codec):
    """1.69 bits: x = d * (q - 1), five trits q to a byte.

    byte 0                   32           48     52  54
         | qs (32)             qs (16)    | qh (4) | d |      d: F16
    A byte b is a fraction b / 256 in base 3: its first digit is a trit of the first stripe of the run, and so on.
    The runs: 5 stripes of 32 elements, 5 stripes of 16, 4 stripes of 4.
    """

    dtype = DTYPES["TQ1_0"]
    layout = np.dtype([("qs", "u1", (52,)), ("d", "<f2")])

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        start = 0
        for first, size, count in RUNS:
            packed = blocks["qs"][:, first : first + size]
            for digit in range(count):
                trits = (packed * np.uint8(3**digit)).astype(np.uint16) * np.uint16(3) >> 8
                np.subtract(trits, np.float32(1), out=out[:, start : start + size])
                start += size
        out *= blocks["d"].astype(np.float32)[:, None]

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        trits = trits_of(values, out)
        start = 0
        for first, size, count in RUNS:
            stripes = trits[:, start : start + size * count].reshape(-1, count, size)
            digits = np.zeros((len(values), size), np.uint16)
            for stripe in range(5):
                digits *= 3
                if stripe < count:
                    digits += stripes[:, stripe]
            # rounded up, so that the digits come out again when the fraction is multiplied by 3
            out["qs"][:, first : first + size] = (digits * np.uint16(256) + np.uint16(242)) // np.uint16(243)
            start += size * count
        return out


class TQ2_0(Codec):
    """2.06 bits: x = d * (q - 1), two bits each.

    byte 0         64  66
         | qs (64) | d |      d: F16; byte l of stretch s (of 32) has elements 128 s + l + (0, 32, 64, 96)
    """

    dtype = DTYPES["TQ2_0"]
    layout = np.dtype([("qs", "u1", (2, 32)), ("d", "<f2")])

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        quants = split_bits(blocks["qs"], 2).reshape(-1, 256).view(np.int8) - np.int8(1)
        np.multiply(quants, blocks["d"].astype(np.float32)[:, None], out=out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        out["qs"] = join_bits(trits_of(values, out).reshape(-1, 2, 4, 32), 2)
        return out


class Q1_0(Codec):
    """1.13 bits: x = d where the bit is set, else -d; d is the mean magnitude.

    byte 0   2         18
         | d | qs (16) |      d: F16; element j is bit j % 8 of byte j / 8
    """

    dtype = DTYPES["Q1_0"]
    layout = np.dtype([("d", "<f2"), ("qs", "u1", (16,))])

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        bits = np.unpackbits(blocks["qs"], axis=1, bitorder="little").view(np.int8)
        np.multiply(bits + bits - np.int8(1), blocks["d"].astype(np.float32)[:, None], out=out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        total = sequential_sum(np.ascontiguousarray(np.abs(values).T))
        out["d"] = to_half(total / np.float32(128))
        out["qs"] = np.packbits(values >= 0, axis=1, bitorder="little")
        return out
