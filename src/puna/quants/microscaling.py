"""Small blocks of E2M1 floats with an 8-bit scale: MXFP4 and NVFP4. Byte for byte what ggml's functions write.

E2M1 is a sign and one of 0, 1/2, 1, 3/2, 2, 3, 4, 6. Ties go to the smaller magnitude; -0 is read but never written.
"""

# ruff: noqa: D102 - `decode` and `encode` are described by Codec

import numpy as np

from puna.dtypes import DTYPES
from puna.errors import ConversionError
from puna.quants.codec import Blocks, Bytes, Codec, Floats, join_bits, split_bits

DOUBLED = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
"""Twice the value of each E2M1; scales are therefore kept halved. ggml reads -0 as 0."""
MIDDLES = (DOUBLED[1:8] + DOUBLED[:7]) / 2


def nearest_e2m1(values: Floats, half_scale: Floats) -> Bytes:
    """Return the E2M1 nearest to each of `values` (n, size) at half the scale (n, 1); 0 where the scale is 0."""
    bounds = MIDDLES * half_scale
    bounds[(half_scale == 0) | np.isinf(DOUBLED[1:8] * half_scale)] = np.inf
    magnitude = np.abs(values)
    quants = np.zeros(values.shape, np.uint8)
    for bound in bounds.T:
        quants += magnitude > bound[:, None]
    quants |= ((values < 0) & (quants > 0)).astype(np.uint8) << 3
    return quants


def half_e8m0(exponent: Bytes) -> Floats:
    """Return 2 ** (exponent - 128), the half of what an E8M0 byte stands for."""
    bits = exponent.astype(np.uint32)
    normal = np.maximum(bits, 1) - np.uint32(1) << np.uint32(23)
    return np.where(bits < 2, np.uint32(0x00200000) << np.minimum(bits, 1), normal).view(np.float32)


def half_e4m3() -> Floats:
    """Return the halves of what each of the 256 bytes stands for as E4M3 without sign; NaN (0x7F) counts as 0."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    value = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    value[0x7F] = 0
    return (value / 2).astype(np.float32)


HALF_E4M3 = half_e4m3()


def to_e4m3(values: Floats) -> Bytes:
    """Round positive values to E4M3 as ggml does: up at the half, all from 248 become 448; more is an error."""
    if (values > 448).any():
        raise ConversionError(
            f"quantize: a block scale of {float(values.max()):g} exceeds 448, the largest of NVFP4; "
            "MXFP4 or BF16 would work"
        )
    bits = values.view(np.uint32).astype(np.int32)
    normal = (bits >> 20) - (120 << 3) + (bits >> 19 & 1)
    normal[normal >= 15 << 3] = 0x7E
    subnormal = np.minimum(values * np.float32(512) + np.float32(0.5), np.float32(7)).astype(np.int32)
    return np.where(bits >> 23 <= 120, subnormal, normal).astype(np.uint8)


class MXFP4(Codec):
    """4.25 bits: x = 2 ** (e - 127) * E2M1[q]; the exponent of the largest magnitude of the block is e - 125.

    byte 0   1                17
         | e | qs (16 x 2 q)  |      element j in the low nibble of byte j, j + 16 in the high one
    """

    dtype = DTYPES["MXFP4"]
    layout = np.dtype([("e", "u1"), ("qs", "u1", (16,))])
    largest = np.inf  # the scale reaches as far as F32

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.take(DOUBLED, split_bits(blocks["qs"], 4).reshape(-1, 32), out=out, mode="clip")
        out *= half_e8m0(blocks["e"])[:, None]

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        peak = np.abs(values).max(axis=1)
        # rounded to F32 as ggml does, which lifts what is just below a power of 2; the byte wraps for denormals
        exponent = np.floor(np.log2(peak.astype(np.float64)).astype(np.float32)) + np.float32(125)
        exponent[peak == 0] = 0
        out["e"] = exponent.astype(np.int32) & 255
        quants = nearest_e2m1(values, half_e8m0(out["e"])[:, None])
        out["qs"] = join_bits(quants.reshape(-1, 2, 16), 4)
        return out


class NVFP4(Codec):
    """4.5 bits in 4 groups of 16: x = scale * E2M1[q]; ggml keeps no scale per tensor, so groups below 0.006 vanish.

    byte 0             4                     36
         | scales (4)  | qs (4 x 8 x 2 q)    |
    scales: E4M3 without sign; qs: of each group of 16, element j in the low nibble of byte j, j + 8 in the high one
    """

    dtype = DTYPES["NVFP4"]
    layout = np.dtype([("scales", "u1", (4,)), ("qs", "u1", (4, 8))])

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.take(DOUBLED, split_bits(blocks["qs"], 4).reshape(-1, 64), out=out, mode="clip")
        groups = out.reshape(-1, 4, 16)
        groups *= HALF_E4M3[blocks["scales"]][:, :, None]

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        groups = values.reshape(-1, 16)
        scales = to_e4m3(np.abs(groups).max(axis=1) / np.float32(6))
        quants = nearest_e2m1(groups, HALF_E4M3[scales][:, None])
        out["scales"], out["qs"] = scales.reshape(-1, 4), join_bits(quants.reshape(-1, 4, 2, 8), 4)
        return out
