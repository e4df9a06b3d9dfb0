"""Codes and scales of packed weights laid out as ggml's blocks: the same numbers in other places, nothing is rounded.

    Q4_0   d, 16 bytes    Q4_1   d, m, 16 bytes    Q8_0   d, 32 bytes    MXFP4   e, 16 bytes     (32 elements)
    NVFP4  4 scales, 4 x 8 bytes                                                                 (64 elements)

Codes of four bits: the first half of a group of elements is in the lower bits of its bytes, the second in the upper.
"""

from __future__ import annotations

import numpy as np

from puna.create.prequantized.unpacked import Array, Bytes


def halves(codes: Bytes, size: int) -> Bytes:
    """Codes (..., n) of four bits as groups of `size`: (..., n / size, size / 2)."""
    groups = codes.reshape(*codes.shape[:-1], -1, 2, size // 2)
    packed: Bytes = groups[..., 0, :] | groups[..., 1, :] << np.uint8(4)
    return packed


def stored(scales: Array) -> Bytes:
    """Scales as they are stored (..., n), as bytes (..., n, size of one)."""
    return np.ascontiguousarray(scales)[..., None].view(np.uint8)


def joined(*fields: Bytes) -> Bytes:
    """Fields of blocks (..., blocks, bytes of the field) as rows (..., bytes of a row)."""
    blocks = np.concatenate(fields, axis=-1)
    return np.ascontiguousarray(blocks).reshape(*blocks.shape[:-2], -1)


def mxfp4(codes: Bytes, exponents: Bytes) -> Bytes:
    """Codes (..., n) and exponents (..., n / 32)."""
    return joined(exponents[..., None], halves(codes, 32))


def nvfp4(codes: Bytes, scales: Bytes) -> Bytes:
    """Codes (..., n) and E4M3 scales (..., n / 16) without sign."""
    groups = halves(codes, 16)
    quants = groups.reshape(*groups.shape[:-2], -1, 32)
    return joined(scales.reshape(*scales.shape[:-1], -1, 4), quants)


def q4_0(codes: Bytes, scales: Array) -> Bytes:
    """Codes (..., n) whose zero is 8, and F16 scales of groups of any multiple of 32."""
    return joined(stored(_each(codes, scales)), halves(codes, 32))


def q4_1(codes: Bytes, scales: Array, least: Array) -> Bytes:
    """Codes (..., n) from zero on, F16 scales and what is added to them."""
    return joined(stored(_each(codes, scales)), stored(_each(codes, least)), halves(codes, 32))


def q8_0(codes: Bytes, scales: Array) -> Bytes:
    """Codes (..., n) whose zero is 128, and F16 scales of groups of any multiple of 32."""
    signed = codes ^ np.uint8(128)
    return joined(stored(_each(codes, scales)), signed.reshape(*signed.shape[:-1], -1, 32))


def _each(codes: Bytes, scales: Array) -> Array:
    """A scale for each 32 codes, of scales that may be for more."""
    return np.repeat(scales, codes.shape[-1] // 32 // scales.shape[-1], axis=-1)
