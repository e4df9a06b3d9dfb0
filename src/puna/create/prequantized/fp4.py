"""Weights of four-bit floats (E2M1), two in a byte, the lower bits first: MXFP4 and NVFP4.

    gpt-oss      <weight>_blocks U8 (experts, out, in / 32, 16)  <weight>_scales U8 (experts, out, in / 32)
                 or <weight>.blocks, <weight>.scales in OpenAI's own files
    compressed   weight_packed U8 (out, in / 2)  weight_scale U8 (out, in / 32) or F8_E4M3 (out, in / 16)
                 weight_global_scale F32 (1,), which divides; NVFP4 only
    ModelOpt     weight U8 (out, in / 2)  weight_scale F8_E4M3 (out, in / 16)  weight_scale_2 F32, which multiplies

MXFP4 has a scale for each 32 elements, a power of two; NVFP4 one for each 16, and one for all. Values are bfloat16:
exact for MXFP4 (transformers' `convert_moe_packed_tensors`, gpt-oss' `weights.py`), rounded once for NVFP4
(`NVFP4QTensor.dequantize`, compressed-tensors' `_dequantize`). transformers keeps gpt-oss' experts as
(experts, in, out), OpenAI as (experts, out, in).
"""

from __future__ import annotations

from math import prod

import numpy as np

from puna.create.prequantized.blocks import mxfp4, nvfp4
from puna.create.prequantized.unpacked import Bytes, Floats, Parts, Unpacked, e8m0, elements, floats, unpack_bits
from puna.dtypes import BF16

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def unpack_experts(parts: Parts) -> Unpacked:
    """gpt-oss' experts as transformers has them: (experts, in, out)."""
    return _experts(parts, transposed=True)


def unpack_blocks(parts: Parts) -> Unpacked:
    """gpt-oss' experts as OpenAI has them: (experts, out, in)."""
    return _experts(parts, transposed=False)


def _experts(parts: Parts, *, transposed: bool) -> Unpacked:
    blocks, scales = parts["blocks"], parts["scales"]
    if len(blocks.shape) != 4 or blocks.shape[-1] != 16:
        raise parts.error(f"its blocks are {blocks.shape}", "(experts, outputs, inputs / 32, 16) would fit")
    parts.check("blocks", blocks.shape, ("U8",))
    parts.check("scales", blocks.shape[:-1], ("U8", "F8_E8M0"))
    experts, out, groups, _ = blocks.shape

    def rows(start: int, stop: int) -> Floats:
        values = E2M1[unpack_bits(elements(blocks)[start:stop], 4)]
        values *= e8m0(elements(scales)[start:stop])[..., None]
        values = values.reshape(stop - start, out, groups * 32)
        return values.swapaxes(1, 2) if transposed else values

    def packed(start: int, stop: int) -> Bytes:
        codes = unpack_bits(elements(blocks)[start:stop], 4).reshape(stop - start, out, groups * 32)
        return mxfp4(codes, finite(parts, elements(scales)[start:stop]))

    shape = (experts, groups * 32, out) if transposed else (experts, out, groups * 32)
    return parts.unpacked(shape, BF16, rows, "MXFP4", blocks=packed, transposed=transposed)


def finite(parts: Parts, exponents: Bytes) -> Bytes:
    """E8M0 exponents as they are; ConversionError where one is NaN."""
    if (exponents == 255).any():
        raise parts.error("a scale is NaN (the exponent 255)", "the checkpoint is damaged: fetch it again")
    return exponents


def unpack_packed(parts: Parts) -> Unpacked:
    """compressed-tensors' nvfp4-pack-quantized where there is a global scale, else mxfp4-pack-quantized."""
    if parts.get("global_scale") is not None:
        return unpack_nv(parts)
    codes, scales = parts["weight"], parts["scale"]
    shape = _shape(parts, 32)
    parts.check("scale", (*shape[:-1], shape[-1] // 32), ("U8", "F8_E8M0"))

    def rows(start: int, stop: int) -> Floats:
        values = E2M1[unpack_bits(elements(codes)[start:stop], 4)].reshape(stop - start, *scales.shape[1:], 32)
        return (values * e8m0(elements(scales)[start:stop])[..., None]).reshape(stop - start, *shape[1:])

    def packed(start: int, stop: int) -> Bytes:
        nibbles = unpack_bits(elements(codes)[start:stop], 4).reshape(stop - start, *shape[1:])
        return mxfp4(nibbles, finite(parts, elements(scales)[start:stop]))

    return parts.unpacked(shape, BF16, rows, "MXFP4", blocks=packed)


def unpack_nv(parts: Parts) -> Unpacked:
    """NVFP4 of ModelOpt, or of compressed-tensors, whose global scale is the reciprocal."""
    codes, scales, divides = parts["weight"], parts["scale"], parts.get("global_scale") is not None
    total = parts["global_scale" if divides else "scale_2"]
    shape = _shape(parts, 16)
    parts.check("scale", (*shape[:-1], shape[-1] // 16), ("F8_E4M3",))
    if total.dtype.name != "F32" or prod(total.shape) != 1:
        raise parts.error(f"its global scale is {total.dtype} {total.shape}", "one F32 would fit")

    def rows(start: int, stop: int) -> Floats:
        whole, local = floats(total).reshape(()), floats(scales, elements(scales)[start:stop])
        local = local / whole if divides else local * whole
        values = E2M1[unpack_bits(elements(codes)[start:stop], 4)].reshape(stop - start, *scales.shape[1:], 16)
        return (values * local[..., None]).reshape(stop - start, *shape[1:])

    def packed(start: int, stop: int) -> Bytes:
        nibbles = unpack_bits(elements(codes)[start:stop], 4).reshape(stop - start, *shape[1:])
        return nvfp4(nibbles, unsigned(parts, elements(scales)[start:stop]))

    dtype = BF16 if divides else parts.settings.get("dtype") or BF16
    whole = shape[-1] % 64 == 0
    exact = whole and bool(floats(total).reshape(()) == 1)  # ggml's blocks have no scale for all
    return parts.unpacked(shape, dtype, rows, "NVFP4" if whole else None, blocks=packed if exact else None)


def unsigned(parts: Parts, scales: Bytes) -> Bytes:
    """E4M3 scales as ggml has them; ConversionError where one has a sign, or is NaN."""
    if (scales >= 0x7F).any():
        raise parts.error(
            "a scale is negative or NaN", "another type than NVFP4 would work for the former: --dtype bf16"
        )
    return scales


def _shape(parts: Parts, group: int) -> tuple[int, ...]:
    """Shape of the weight: its codes are two in a byte and whole groups."""
    codes = parts["weight"]
    shape = (*codes.shape[:-1], codes.shape[-1] * 2) if codes.shape else ()
    if len(shape) not in (2, 3) or codes.dtype.name != "U8" or shape[-1] % group:
        raise parts.error(
            f"its codes are {codes.dtype} {codes.shape}", f"U8 rows of a multiple of {group // 2} would fit"
        )
    return shape
