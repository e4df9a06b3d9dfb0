"""bitsandbytes: four-bit codes of a table under a scale for each block, or int8 under one for each row.

    <weight>  U8 (ceil(n / 2), 1): two codes in a byte, the upper bits first, the elements of all rows in one stream
              (another type of bnb_4bit_quant_storage is the same bytes)
    <weight>.quant_state.bitsandbytes__nf4 (or __fp4)  U8: JSON {quant_type, blocksize, dtype, shape, nested_*}
    <weight>.quant_map F32 (16,)    <weight>.absmax F32 (blocks,), or with nested scales U8 (blocks,) and
    <weight>.nested_absmax F32 (ceil(blocks / nested_blocksize),)    <weight>.nested_quant_map F32 (256,)

    <module>.weight I8 (out, in)  <module>.SCB F32 (out,)  <module>.weight_format U8: 0, rows

Values: quant_map[code] * scale, rounded to the state's dtype; a nested scale is
nested_quant_map[absmax] * nested_absmax + nested_offset. int8: code * SCB * (1 / 127), float32.
Source: bitsandbytes/functional.py (`QuantState`, `dequantize_4bit`, `int8_vectorwise_dequant`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from puna.create.prequantized.unpacked import FLOATS, Floats, Parts, Unpacked, elements, floats, unpack_bits
from puna.dtypes import F32, DType

PER_127 = np.float32(7.874015718698502e-3)
MAX_STATE = 1 << 16  # bytes of JSON


@dataclass(frozen=True, slots=True)
class State:
    """What the JSON says; `nested` is the block of nested scales and their offset."""

    block: int
    dtype: DType
    shape: tuple[int, ...]
    nested: tuple[int, np.float32] | None


def unpack_4bit(parts: Parts) -> Unpacked:
    """nf4 or fp4, with or without nested scales."""
    state = _state(parts)
    count = prod(state.shape)
    blocks = -(-count // state.block)
    if parts["weight"].raw.size != -(-count // 2):
        raise parts.error(f"{parts['weight'].raw.size} bytes of codes for {state.shape}", f"{-(-count // 2)} would fit")
    parts.check("quant_map", (16,), ("F32",))
    parts.check("absmax", (blocks,), ("U8" if state.nested else "F32",))
    if state.nested:
        _check_nested(parts, blocks, state.nested[0])
    width = prod(state.shape[1:])

    def rows(start: int, stop: int) -> Floats:
        first, last = start * width, stop * width
        packed = parts["weight"].raw[first // 2 : -(-last // 2)]
        codes = unpack_bits(packed << 4 | packed >> 4, 4)[first % 2 :][: last - first]  # upper bits first
        begin, end = first // state.block, -(-last // state.block)
        scales = np.repeat(_scales(parts, state, begin, end), state.block)[first - begin * state.block :]
        return (floats(parts["quant_map"])[codes] * scales[: last - first]).reshape(stop - start, *state.shape[1:])

    return parts.unpacked(state.shape, state.dtype, rows)


def _scales(parts: Parts, state: State, begin: int, end: int) -> Floats:
    """The scales of some blocks."""
    stored = elements(parts["absmax"])[begin:end]
    if state.nested is None:
        return floats(parts["absmax"], stored)
    size, offset = state.nested
    outer = floats(parts["nested_absmax"])[np.arange(begin, end) // size]
    return floats(parts["nested_quant_map"])[stored] * outer + offset


def _check_nested(parts: Parts, blocks: int, size: int) -> None:
    for role in ("nested_absmax", "nested_quant_map"):
        if parts.get(role) is None:
            raise parts.error(f"its scales are nested and there is no {role}", "a whole checkpoint has it")
    parts.check("nested_absmax", (-(-blocks // size),), ("F32",))
    parts.check("nested_quant_map", (256,), ("F32",))


def _state(parts: Parts) -> State:
    """The checked JSON of a weight."""
    blob = parts["quant_state"]
    parts.check("quant_state", blob.shape, ("U8",))
    try:
        said = json.loads(blob.raw[:MAX_STATE].tobytes())
        shape = tuple(_natural(n) for n in said["shape"])
        nested = None
        if parts.get("nested_absmax") is not None or "nested_blocksize" in said:
            nested = (_natural(said["nested_blocksize"]), _offset(said["nested_offset"]))
        state = State(_natural(said["blocksize"]), FLOATS[said["dtype"]], shape, nested)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        wrong = f"its quant_state does not say what it must ({type(error).__name__}: {error})"
        raise parts.error(wrong, "blocksize, dtype and shape, as bitsandbytes writes them, would work") from error
    if not shape or said.get("quant_type") not in ("nf4", "fp4"):
        raise parts.error(f"its quant_type is {said.get('quant_type')!r}, its shape {shape}", "nf4 and fp4 work")
    return state


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 < value < 1 << 40:
        raise ValueError(f"{value!r} is no size")
    return value


def _offset(value: Any) -> np.float32:
    if not isinstance(value, float | int) or not abs(value) < 1e30:
        raise ValueError(f"{value!r} is no offset")
    return np.float32(value)


def unpack_int8(parts: Parts) -> Unpacked:
    """LLM.int8()."""
    codes, scale, layout = parts["weight"], parts["SCB"], parts.get("weight_format")
    if len(codes.shape) != 2:
        raise parts.error(f"its weight is {codes.shape}", "a matrix would fit")
    parts.check("weight", codes.shape, ("I8",))
    parts.check("SCB", codes.shape[:1], ("F32",))
    if layout is not None and layout.raw.any():
        raise parts.error(f"its weight_format is {layout.raw[:8].tolist()}", "0, rows, works")

    def rows(start: int, stop: int) -> Floats:
        values = elements(codes)[start:stop].astype(np.float32)
        return values * elements(scale)[start:stop, None] * PER_127

    return parts.unpacked(codes.shape, F32, rows)
