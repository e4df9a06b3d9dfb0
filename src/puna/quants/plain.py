"""F32, F16, BF16: one value per "block". It does not know fp8, which exists in checkpoints only."""

# ruff: noqa: D102 - `decode` and `encode` are described by Codec

import numpy as np

from puna import dtypes
from puna.quants.codec import Blocks, Codec, Floats


class F32(Codec):
    """IEEE single precision, little-endian."""

    dtype = dtypes.F32
    layout = np.dtype("<f4")

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        out[:, 0] = blocks

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        return values[:, 0]


class F16(Codec):
    """IEEE half precision: rounds to nearest even, overflows to inf, every NaN becomes the quiet NaN of its sign."""

    dtype = dtypes.F16
    layout = np.dtype("<f2")

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        out[:, 0] = blocks

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        x = values[:, 0]
        half = x.astype("<f2")
        nan = np.isnan(x)
        if nan.any():
            half.view("<u2")[nan] = np.where(np.signbit(x[nan]), 0xFE00, 0x7E00)
        return half


class BF16(Codec):
    """The upper 16 bits of F32: rounds to nearest even, a NaN keeps its upper bits and becomes quiet."""

    dtype = dtypes.BF16
    layout = np.dtype("<u2")

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.left_shift(blocks, np.uint32(16), out=out.view(np.uint32)[:, 0])

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        bits = values[:, 0].view(np.uint32)
        nan = (bits & 0x7FFFFFFF) > 0x7F800000
        rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
        return np.where(nan, (bits >> 16) | 64, rounded).astype("<u2")
