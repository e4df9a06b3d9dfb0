"""Integer codes in words of 32 bits, with groups of inputs: GPTQ, AWQ and compressed-tensors' pack-quantized.

    GPTQ  qweight I32 (in * bits / 32, out)  qzeros I32 (groups, out * bits / 32)  scales (groups, out)  g_idx (in,)
          words run down the inputs, lowest bits first, as one stream (a code of 3 bits may lie in two words)
    AWQ   qweight I32 (in, out / 8)  qzeros I32 (groups, out / 8)  scales (groups, out)
          words run along the outputs; within a word the outputs are in the order 0 2 4 6 1 3 5 7
    CT    weight_packed I32 (out, ceil(in / per word))  weight_scale (out, groups) or (1,)
          weight_shape (2,)  weight_g_idx (in,)
          weight_zero_point I32 (ceil(out / per word), groups), or I8 like the scale
          codes and zeros are stored plus 2^(bits - 1), but those of I8

Value: (code - zero) * scale, rounded to the scale's type, as AutoGPTQ and GPTQModel (`dequantize_weight`), AutoAWQ
(`dequantize_gemm`) and compressed-tensors (`unpack_from_int32`, `_dequantize`) define it. GPTQ's first format stores
zeros less one; adding it wraps within the bits, as in AutoGPTQ.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from puna.create.prequantized.blocks import q4_0, q8_0
from puna.create.prequantized.unpacked import (
    Array,
    Bytes,
    Floats,
    Parts,
    Unpacked,
    elements,
    floats,
    groups_in_order,
    unpack_bits,
)
from puna.dtypes import F16, Stored

SCALES = ("F16", "BF16", "F32")
WORDS = ("I32", "U32")
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word the code of each of eight outputs lies, counted from the lowest."""


def unpack_gptq(parts: Parts) -> Unpacked:
    """GPTQ, bits 2, 3, 4 and 8, in either format, with or without an order of activations."""
    codes, scale, index = parts["qweight"], parts["scales"], parts.get("g_idx")
    if len(codes.shape) != 2 or len(scale.shape) != 2 or not prod((*codes.shape, *scale.shape)):
        raise parts.error(f"its qweight is {codes.shape}, its scales {scale.shape}", "two matrices would fit")
    words, out = codes.shape
    bits = parts.setting("bits", (2, 3, 4, 8)) if index is None else _bits(parts, words, index)
    inputs, groups = words * 32 // bits, scale.shape[0]
    if words % bits and bits == 3:
        raise parts.error(f"its qweight has {words} rows", "a multiple of 3 would hold codes of 3 bits")
    parts.check("qweight", (words, out), WORDS)
    parts.check("qzeros", (groups, -(-out * bits // 32)), WORDS)
    parts.check("scales", (groups, out), SCALES)
    parts.check("g_idx", (inputs,), ("I32", "I64"))
    if index is None and inputs % groups:
        raise parts.error(f"{inputs} inputs are no {groups} equal groups", "a g_idx would tell the group of each")
    added = 0 if parts.settings.get("format") == "gptq_v2" else 1

    def rows(start: int, stop: int) -> Floats:
        group = groups_in_order(inputs, groups) if index is None else _index(parts, index, groups)
        column = np.ascontiguousarray(elements(codes)[:, start:stop].T)
        return _affine(
            unpack_bits(column, bits), group, _zeros(parts, bits, added, start, stop), _columns(scale, start, stop)
        )

    return parts.unpacked((out, inputs), scale.dtype, rows, step=32)


def _bits(parts: Parts, words: int, index: Stored) -> int:
    """Bits of a code; GPTQModel may choose them for each module, so the shapes say it."""
    bits, rest = divmod(words * 32, max(1, prod(index.shape)))
    if rest or bits not in (2, 3, 4, 8):
        raise parts.error(
            f"its qweight has {words} rows of 32 bits for {prod(index.shape)} inputs",
            "2, 3, 4 or 8 bits each would fit",
        )
    return bits


def _zeros(parts: Parts, bits: int, added: int, start: int, stop: int) -> Floats:
    """Zero points of the outputs start..stop, where start is a multiple of 32: (stop - start, groups)."""
    words = elements(parts["qzeros"])[:, start * bits // 32 : -(-stop * bits // 32)]
    spare = -words.shape[1] % bits if bits == 3 else 0  # outputs may end within the words of 32 codes
    zeros = unpack_bits(np.pad(words, ((0, 0), (0, spare))), bits)[:, : stop - start]
    return ((zeros + np.uint8(added)) & np.uint8((1 << bits) - 1)).T.astype(np.float32)


def _columns(scale: Stored, start: int, stop: int) -> Floats:
    return floats(scale, elements(scale)[:, start:stop].T)


def _index(parts: Parts, index: Stored, groups: int) -> NDArray[np.intp]:
    group = elements(index).astype(np.intp)
    if group.size and not 0 <= group.min() <= group.max() < groups:
        raise parts.error(f"its g_idx goes from {group.min()} to {group.max()}", f"0 to {groups - 1} are its groups")
    return group


def _affine(codes: Array, group: NDArray[np.intp], zeros: Floats | None, scales: Floats) -> Floats:
    """(code - zero) * scale: codes (rows, inputs), the others (rows, groups)."""
    values = codes.astype(np.float32)
    if zeros is not None:
        values -= zeros[:, group]
    values *= scales[:, group]
    return values


def unpack_awq(parts: Parts) -> Unpacked:
    """AWQ's gemm packing, four bits."""
    parts.setting("bits", (4,))
    codes, scale = parts["qweight"], parts["scales"]
    if len(codes.shape) != 2 or len(scale.shape) != 2 or not prod((*codes.shape, *scale.shape)):
        raise parts.error(f"its qweight is {codes.shape}, its scales {scale.shape}", "two matrices would fit")
    (inputs, words), groups = codes.shape, scale.shape[0]
    size = parts.setting("group_size")
    expected = 1 if size == -1 else inputs // size if size > 0 else 0
    if groups != expected or inputs % groups:
        raise parts.error(f"{inputs} inputs have {groups} groups, of {size} each", f"{expected} would fit")
    parts.check("qweight", (inputs, words), WORDS)
    parts.check("qzeros", (groups, words), WORDS)
    parts.check("scales", (groups, 8 * words), SCALES)

    def rows(start: int, stop: int) -> Floats:
        part = slice(start // 8, stop // 8)
        zeros = _awq_codes(elements(parts["qzeros"])[:, part]).astype(np.float32)
        group = groups_in_order(inputs, groups)
        return _affine(_awq_codes(elements(codes)[:, part]), group, zeros, _columns(scale, start, stop))

    return parts.unpacked((8 * words, inputs), scale.dtype, rows, step=8)


def _awq_codes(words: Array) -> Array:
    """Codes of some words (n, words): (8 * words, n)."""
    codes = unpack_bits(words, 4).reshape(*words.shape, 8)
    return codes[..., AWQ_ORDER].reshape(len(words), -1).T


def unpack_words(parts: Parts) -> Unpacked:
    """compressed-tensors' pack-quantized, 4 and 8 bits."""
    out, inputs = _packed_shape(parts)
    codes, scale, zero, index = parts["weight"], parts["scale"], parts.get("zero_point"), parts.get("g_idx")
    bits, groups = _word_bits(parts, inputs), scale.shape[-1] if len(scale.shape) == 2 else 1
    _check_words(parts, (out, inputs), bits, groups)

    def rows(start: int, stop: int) -> Floats:
        group = groups_in_order(inputs, groups)
        if index is not None and not (elements(index) < 0).any():
            group = _index(parts, index, groups)
        stored = elements(scale).reshape(-1, groups)
        scales = floats(scale, stored if len(stored) == 1 else stored[start:stop])
        zeros = _word_zeros(zero, bits, groups, start, stop)
        each = (stop - start, groups)
        unpacked = unpack_bits(elements(codes)[start:stop], bits)[:, :inputs]
        return _affine(unpacked, group, np.broadcast_to(zeros, each), np.broadcast_to(scales, each))

    def packed(start: int, stop: int) -> Bytes:
        stored = elements(scale).reshape(-1, groups)
        scales = np.broadcast_to(stored if len(stored) == 1 else stored[start:stop], (stop - start, groups))
        unpacked = unpack_bits(elements(codes)[start:stop], bits)[:, :inputs]
        return {4: q4_0, 8: q8_0}[bits](unpacked, scales)

    exact = zero is None and index is None and scale.dtype is F16 and (inputs // groups) % 32 == 0
    lossless = {4: "Q4_0", 8: "Q8_0"}[bits] if exact else None
    return parts.unpacked((out, inputs), scale.dtype, rows, lossless, blocks=packed if exact else None)


def _check_words(parts: Parts, shape: tuple[int, int], bits: int, groups: int) -> None:
    """ConversionError where the parts do not fit a weight of `shape`."""
    (out, inputs), scale, zero, per = shape, parts["scale"], parts.get("zero_point"), 32 // bits
    parts.check("weight", (out, -(-inputs // per)), WORDS)
    fits = prod(scale.shape) == 1 or scale.shape == (out, groups)
    if not (fits and groups and scale.dtype.name in SCALES):
        raise parts.error(f"its scale is {scale.dtype} {scale.shape}", f"F16, BF16 or F32 ({out}, groups) would fit")
    if inputs % groups:
        raise parts.error(f"{inputs} inputs are no {groups} equal groups", "a divisor would fit")
    parts.check("g_idx", (inputs,), ("I32", "I64"))
    if zero is None and not parts.settings["symmetric"]:
        raise parts.error("it is not symmetric and there is no weight_zero_point", "fetch the checkpoint again")
    plain = zero is not None and zero.dtype.name == "I8"
    parts.check("zero_point", scale.shape if plain else (-(-out // per), groups), ("I8",) if plain else WORDS)


def _packed_shape(parts: Parts) -> tuple[int, int]:
    shape = parts["shape"]
    parts.check("shape", (2,), ("I64", "I32"))
    out, inputs = (int(n) for n in elements(shape))
    if min(out, inputs) < 1 or len(parts["weight"].shape) != 2 or parts["weight"].shape[0] != out:
        raise parts.error(f"its weight_shape says ({out}, {inputs})", f"its codes are {parts['weight'].shape}")
    return out, inputs


def _word_bits(parts: Parts, inputs: int) -> int:
    """Bits of a code: of those that the config's groups have, the ones that fit the shape."""
    told: list[int] = parts.settings["bits"]
    columns = parts["weight"].shape[1]
    fitting = [bits for bits in told if -(-inputs // (32 // bits)) == columns]
    if len(fitting) != 1:
        raise parts.error(
            f"its codes are {columns} words for {inputs} inputs",
            f"codes of {' or '.join(map(str, told or (4, 8)))} bits work",
        )
    return fitting[0]


def _word_zeros(zero: Stored | None, bits: int, groups: int, start: int, stop: int) -> Floats:
    """Zero points as codes are stored, from zero on: (stop - start, groups), or (1, groups) where one is for all."""
    if zero is None:
        return np.full((1, groups), 1 << (bits - 1), np.float32)
    if zero.dtype.name == "I8":
        signed = elements(zero).reshape(-1, groups).astype(np.float32) + np.float32(1 << (bits - 1))
        return signed if len(signed) == 1 else signed[start:stop]
    per = 32 // bits
    words = elements(zero)[start // per : -(-stop // per)]
    codes = unpack_bits(np.ascontiguousarray(words.T), bits)
    return codes[:, start % per :][:, : stop - start].T.astype(np.float32)
