"""MLX: codes in words of 32 bits, the lowest bits first, one stream for each row.

    <module>.weight U32 (..., out, in * bits / 32)
    affine   <module>.scales and .biases F16, BF16 or F32 (..., out, in / group); 2, 3, 4, 5, 6 and 8 bits
    mxfp4    codes E2M1; <module>.scales U8 (..., out, in / 32), powers of two
    mxfp8    codes E4M3; scales as mxfp4's
    nvfp4    codes E2M1; <module>.scales U8 (..., out, in / 16), E4M3

Affine value: code * scale + bias, where product and sum are both rounded to the scale's type, as `mx.dequantize` does
on the CPU. The others are code * scale in bfloat16. Source: mlx/backend/cpu/quantized.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from puna.create.prequantized.blocks import mxfp4, nvfp4, q4_1
from puna.create.prequantized.fp4 import E2M1, finite, unsigned
from puna.create.prequantized.unpacked import (
    Array,
    Bytes,
    Floats,
    Parts,
    Unpacked,
    decoded,
    e8m0,
    elements,
    floats,
    round_to,
    unpack_bits,
)
from puna.dtypes import BF16, F8_E4M3, F16


def _e4m3(codes: Bytes) -> Floats:
    return decoded(codes, F8_E4M3)


FLOAT_MODES: dict[str, tuple[int, int, Callable[[Bytes], Array], Callable[[Bytes], Floats], str | None]] = {
    "mxfp4": (32, 4, lambda codes: E2M1[codes], e8m0, "MXFP4"),
    "nvfp4": (16, 4, lambda codes: E2M1[codes], _e4m3, "NVFP4"),
    "mxfp8": (32, 8, _e4m3, e8m0, None),
}
"""Of each mode of floats: elements of a group, bits, what a code means, what a scale means, the ggml type."""

MODES = ("affine", *FLOAT_MODES)


def unpack(parts: Parts) -> Unpacked:
    """A weight of any mode."""
    mode = parts.settings.get("mode") or "affine"
    if mode not in MODES:
        raise parts.error(f"'quantization_config' says 'mode': {repr(mode)[:80]}", f"what works: {', '.join(MODES)}")
    return _affine(parts) if mode == "affine" else _floats(parts, mode)


def _shapes(parts: Parts, bits: int, group: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of the weight, and that of its scales."""
    *rows, words = parts["weight"].shape or (0,)
    columns, rest = divmod(words * 32, bits)
    if not rows or not prod((*rows, words)) or rest or columns % group:
        raise parts.error(
            f"its weight is {parts['weight'].shape}",
            f"whole groups of {group} codes of {bits} bits in each row would fit",
        )
    parts.check("weight", parts["weight"].shape, ("U32",))
    return (*rows, columns), (*rows, columns // group)


def _affine(parts: Parts) -> Unpacked:
    bits = parts.setting("bits", (2, 3, 4, 5, 6, 8))
    group = parts.setting("group_size", (16, 32, 64, 128))
    shape, small = _shapes(parts, bits, group)
    codes, scale, bias = parts["weight"], parts["scales"], parts.get("biases")
    if bias is None:
        raise parts.error("there are no biases beside its scales", "mode 'affine' has both")
    parts.check("scales", small, ("F16", "BF16", "F32"))
    parts.check("biases", small, (scale.dtype.name,))

    def rows(start: int, stop: int) -> Floats:
        values = unpack_bits(elements(codes)[start:stop], bits).astype(np.float32)
        values = values.reshape(stop - start, *small[1:], group)
        values *= floats(scale, elements(scale)[start:stop])[..., None]
        values = round_to(values, scale.dtype)
        return (values + floats(bias, elements(bias)[start:stop])[..., None]).reshape(stop - start, *shape[1:])

    def packed(start: int, stop: int) -> Bytes:
        nibbles = unpack_bits(elements(codes)[start:stop], bits).reshape(stop - start, *shape[1:])
        return q4_1(nibbles, elements(scale)[start:stop], elements(bias)[start:stop])

    exact = bits == 4 and group % 32 == 0 and scale.dtype is F16
    return parts.unpacked(shape, scale.dtype, rows, "Q4_1" if exact else None, blocks=packed if exact else None)


def _floats(parts: Parts, mode: str) -> Unpacked:
    group, bits, values_of, scales_of, lossless = FLOAT_MODES[mode]
    shape, small = _shapes(parts, bits, group)
    codes, scale = parts["weight"], parts["scales"]
    parts.check("scales", small, ("U8",))

    def rows(start: int, stop: int) -> Floats:
        values = values_of(unpack_bits(elements(codes)[start:stop], bits)).reshape(stop - start, *small[1:], group)
        return (values * scales_of(elements(scale)[start:stop])[..., None]).reshape(stop - start, *shape[1:])

    def packed(start: int, stop: int) -> Bytes:
        nibbles = unpack_bits(elements(codes)[start:stop], bits).reshape(stop - start, *shape[1:])
        stored = elements(scale)[start:stop]
        return mxfp4(nibbles, finite(parts, stored)) if mode == "mxfp4" else nvfp4(nibbles, unsigned(parts, stored))

    fits = lossless is not None and (shape[-1] % 64 == 0 or mode == "mxfp4")
    return parts.unpacked(shape, BF16, rows, lossless if fits else None, blocks=packed if fits else None)
