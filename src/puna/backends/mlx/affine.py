"""Stored types that MLX multiplies by as they are: codes in groups of 32, each with a scale and a bias.

A weight is code * scale + bias, with float32 scales and biases the very numbers that `puna.quants` gives. Layouts:
ggml's blocks (docs/quantization.md); MLX packs codes as a little-endian stream of bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Groups = tuple[Codes, Floats, Floats]
"""Codes (n, 32), scales (n,), biases (n,)."""

GROUP = 32


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
    codes = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, GROUP)
    return codes, *_scales(blocks)


def q5_k(blocks: Bytes) -> Groups:
    """As Q4_K; the fifth bits of group g are bits g of 32 bytes."""
    low = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, GROUP)
    fifth = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & np.uint8(1)) << np.uint8(4)
    return (low | fifth).reshape(-1, GROUP), *_scales(blocks)


def _scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Of K types with minima: 6 bits a scale and a minimum, in 12 bytes."""
    packed = blocks[:, 4:16]
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate((first & 63, (third & 15) | (first >> 6 << 4)), 1).astype(np.float32)
    minima = np.concatenate((second & 63, (third >> 4) | (second >> 6 << 4)), 1).astype(np.float32)
    return (_half(blocks, 0)[:, None] * scales).reshape(-1), (-_half(blocks, 2)[:, None] * minima).reshape(-1)


TYPES: dict[str, tuple[int, Callable[[Bytes], Groups]]] = {
    "Q4_0": (4, q4_0),
    "Q4_1": (4, q4_1),
    "Q5_0": (5, q5_0),
    "Q5_1": (5, q5_1),
    "Q8_0": (8, q8_0),
    "Q4_K": (4, q4_k),
    "Q5_K": (5, q5_k),
}
"""Bits of a code, and what reads blocks (n, bytes)."""


def packed(codes: Codes, bits: int) -> NDArray[np.uint32]:
    """Codes (rows, columns) as MLX packs them: (rows, columns * bits / 32)."""
    if bits == 8:
        stream = np.ascontiguousarray(codes)
    elif bits == 4:
        stream = np.ascontiguousarray(codes[:, 0::2] | codes[:, 1::2] << 4)
    else:
        each = np.unpackbits(codes[:, :, None], axis=2, count=bits, bitorder="little")
        stream = np.packbits(each.reshape(len(codes), -1), axis=1, bitorder="little")
    return stream.view("<u4")
