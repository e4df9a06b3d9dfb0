"""Weights of one byte each, FP8 or INT8, under scales per tensor, row or block (fp8, fbgemm_fp8, modelopt, compressed).

    <weight>             F8_E4M3, F8_E5M2 or I8 (..., rows, columns)
    <weight>_scale_inv   or <weight>_scale: one, (rows,), (rows, 1), or one for each block:
                         (ceil(rows / R), ceil(columns / C))
    <weight>_zero_point  like the scale, with INT8 only

Value: (code - zero point) * scale. As transformers' Fp8Dequantize does, it is computed in float32 and rounded to the
model's type, or to the scale's where config.json names none; U8 and F8_E8M0 scales are powers of two.
"""

from __future__ import annotations

from math import prod

import numpy as np

from puna.create.prequantized.unpacked import Array, Floats, Parts, Unpacked, e8m0, elements, floats
from puna.dtypes import BF16, Stored

CODES = ("F8_E4M3", "F8_E5M2", "I8")
SCALES = ("F32", "F16", "BF16", "U8", "F8_E8M0")


def unpack(parts: Parts) -> Unpacked:
    """A weight of FP8 or INT8 codes and its scales."""
    codes, scale, zero = parts["weight"], parts["scale"], parts.get("zero_point")
    if codes.dtype.name not in CODES:
        raise parts.error(f"its codes are {codes.dtype}", f"what works: {', '.join(CODES)}")
    if scale.dtype.name not in SCALES:
        raise parts.error(f"its scales are {scale.dtype}", f"what works: {', '.join(SCALES)}")
    if not codes.shape:
        raise parts.error("it is a single number", "a vector or a matrix would fit")
    grid, block = _grid(parts, codes.shape, scale.shape)
    if zero is not None:
        parts.check("zero_point", scale.shape, ("I8",))
    scales = _Grid(scale, grid, block, codes.shape)
    zeros = None if zero is None else _Grid(zero, grid, block, codes.shape)

    def rows(start: int, stop: int) -> Floats:
        values = floats(codes, elements(codes)[start:stop])
        if zeros is not None:
            values = values - zeros.rows(start, stop)
        return values * scales.rows(start, stop)

    dtype = parts.settings.get("dtype") or (scale.dtype if scale.dtype.name in SCALES[:3] else BF16)
    return parts.unpacked(codes.shape, dtype, rows)


class _Grid:
    """One number for each block of a tensor."""

    def __init__(self, numbers: Stored, grid: tuple[int, ...], block: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self.numbers, self.grid, self.block, self.shape = numbers, grid, block, shape

    def rows(self, start: int, stop: int) -> Floats:
        """The numbers of rows start..stop, spread over the columns where they differ there."""
        stored: Array = elements(self.numbers).reshape(self.grid)[np.arange(start, stop) // self.block[0]]
        values = e8m0(stored) if self.numbers.dtype.name == "U8" else floats(self.numbers, stored)
        for axis in range(1, len(self.shape)):
            if self.grid[axis] > 1:
                values = np.repeat(values, self.block[axis], axis)
                values = values[(slice(None),) * axis + (slice(self.shape[axis]),)]
        return values


def _grid(parts: Parts, shape: tuple[int, ...], scale: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The scale's shape with one entry for each axis of the weight, and the size of a block along each."""
    if prod(scale) == 1:
        return (1,) * len(shape), shape
    if scale == shape[:1]:
        return (*scale, *(1,) * (len(shape) - 1)), (1, *shape[1:])
    sizes = parts.settings.get("block") or ()
    for grid in (scale, tuple(n for n in scale if n > 1)):  # ModelOpt writes (rows, 1, columns, 1)
        block = _block(shape, grid, sizes)
        if block:
            return grid, block
    told = f" in blocks of {tuple(sizes)}" if sizes else ""
    raise parts.error(
        f"its scales are {scale} for a weight of {shape}{told}",
        "one scale, one for each row, or one for each block would fit",
    )


def _block(shape: tuple[int, ...], grid: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The sides of a block so that `grid` blocks cover `shape`, or None; `sizes` are what the last ones should be."""
    if len(grid) != len(shape) or len(sizes) > len(shape) or not all(grid):
        return None
    told = (*(1 for _ in shape[len(sizes) :]), *sizes)
    if sizes and grid == tuple(-(-size // side) for size, side in zip(shape, told, strict=True)):
        return told
    whole = all(count in (1, size) for count, size in zip(grid, shape, strict=True))
    if any(size % count for size, count in zip(shape, grid, strict=True)) or (sizes and not whole):
        return None
    return tuple(size // count for size, count in zip(shape, grid, strict=True))
