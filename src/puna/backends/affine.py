"""Stored types that libraries multiply by as they are: codes in groups, each with a scale and a bias.

A weight is code * scale + bias, with float32 scales and biases the very numbers that `puna.quants` gives. Layouts:
ggml's blocks (docs/quantization.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Groups = tuple[Codes, Floats, Floats]
"""Codes (n, group), scales (n,), biases (n,)."""


class Coded(NamedTuple):
    """Bits of a code, codes in a group, the code that stands for 0 in all groups (None: minima differ), the reader."""

    bits: int
    group: int
    zero: int | None
    read: Callable[[Bytes], Groups]


def _half(blocks: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2")[:, 0].astype(np.float32)


def _nibbles(packed: Bytes) -> Codes:
    """The low halves of bytes, then the high ones: (..., n) to (..., 2n)."""
    return np.concatenate((packed & 15, packed >> 4), -1)


def _fifths(packed: Bytes) -> Codes:
    """A bit for each of 32 codes, (n, 4) bytes, in the place of their fifth."""
    return np.unpackbits(np.ascontiguousarray(packed), axis=1, bitorder="little") << np.uint8(4)


def q4_0(blocks: Bytes) -> Groups:
    """(code - 8) * d."""
    d = _half(blocks, 0)
    return _nibbles(blocks[:, 2:]), d, -8 * d


def q4_1(blocks: Bytes) -> Groups:
    """code * d + m."""
    return _nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2)


def q5_0(blocks: Bytes) -> Groups:
    """(code - 16) * d."""
    d = _half(blocks, 0)
    return _nibbles(blocks[:, 6:]) | _fifths(blocks[:, 2:6]), d, -16 * d


def q5_1(blocks: Bytes) -> Groups:
    """code * d + m."""
    return _nibbles(blocks[:, 8:]) | _fifths(blocks[:, 4:8]), _half(blocks, 0), _half(blocks, 2)


def q8_0(blocks: Bytes) -> Groups:
    """(code - 128) * d."""
    d = _half(blocks, 0)
    return blocks[:, 2:] ^ np.uint8(0x80), d, -128 * d


def q4_k(blocks: Bytes) -> Groups:
    """Eight groups, each code * (d * scale) - dmin * min; 32 bytes hold the codes of two."""
    codes = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 32)
    return codes, *_scales(blocks)


def q5_k(blocks: Bytes) -> Groups:
    """As Q4_K; the fifth bits of group g are bits g of 32 bytes."""
    low = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    fifth = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & np.uint8(1)) << np.uint8(4)
    return (low | fifth).reshape(-1, 32), *_scales(blocks)


def _scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Of K types with minima: 6 bits a scale and a minimum, in 12 bytes."""
    packed = blocks[:, 4:16]
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate((first & 63, (third & 15) | (first >> 6 << 4)), 1).astype(np.float32)
    minima = np.concatenate((second & 63, (third >> 4) | (second >> 6 << 4)), 1).astype(np.float32)
    return (_half(blocks, 0)[:, None] * scales).reshape(-1), (-_half(blocks, 2)[:, None] * minima).reshape(-1)


def q6_k(blocks: Bytes) -> Groups:
    """Sixteen groups of 16, each (code - 32) * (d * scale); two stretches of 64 bytes of low and 32 of high bits."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64))
    high = _fields(blocks[:, 128:192].reshape(-1, 2, 32)) << np.uint8(4)
    codes = (low | high).reshape(-1, 16)
    scales = (_half(blocks, 208)[:, None] * blocks[:, 192:208].view(np.int8).astype(np.float32)).reshape(-1)
    return codes, scales, -32 * scales


def q2_k(blocks: Bytes) -> Groups:
    """Sixteen groups of 16, each code * (d * scale) - dmin * min."""
    codes, packed = _fields(blocks[:, 16:80].reshape(-1, 2, 32)).reshape(-1, 16), blocks[:, :16]
    scales = _half(blocks, 80)[:, None] * (packed & 15).astype(np.float32)
    return codes, scales.reshape(-1), (-_half(blocks, 82)[:, None] * (packed >> 4).astype(np.float32)).reshape(-1)


def _fields(packed: Bytes) -> Codes:
    """The four pairs of bits of bytes, the lowest of all of them first: (..., n) to (..., 4n)."""
    return np.concatenate([packed >> np.uint8(shift) & np.uint8(3) for shift in (0, 2, 4, 6)], -1)


TYPES = {
    "Q4_0": Coded(4, 32, 8, q4_0),
    "Q4_1": Coded(4, 32, None, q4_1),
    "Q5_0": Coded(5, 32, 16, q5_0),
    "Q5_1": Coded(5, 32, None, q5_1),
    "Q8_0": Coded(8, 32, 128, q8_0),
    "Q2_K": Coded(2, 16, None, q2_k),
    "Q4_K": Coded(4, 32, None, q4_k),
    "Q5_K": Coded(5, 32, None, q5_k),
    "Q6_K": Coded(6, 16, 32, q6_k),
}
"""How each type that is affine is read."""
