"""Finding NaN and infinity in stored values, fast: passes over pieces that fit a core's cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import DType

Array = NDArray[Any]

STEP = 1 << 16
"""Elements looked at together."""

INFINITE = {"BF16": 0x7F80, "F16": 0x7C00}
"""Infinity's bits, of types of 16 bits; above it are NaNs, below it numbers."""

SIZES = {"F32": "<f4", "F64": "<f8"}


def first_not_finite(stored: Array, dtype: DType) -> int | None:
    """The index of the first element that is NaN or infinite, None where all are finite or the type has neither.

    `stored` are the bytes of elements of `dtype`, 1-D.
    """
    if dtype.name in INFINITE:
        return _first_of_16_bits(stored.view("<u2"), INFINITE[dtype.name])
    if dtype.name in SIZES:
        return _first_of_floats(stored.view(SIZES[dtype.name]))
    return None


def _first_of_16_bits(elements: Array, infinite: int) -> int | None:
    magnitude = np.empty(min(STEP, elements.size), np.uint16)
    for start in range(0, elements.size, STEP):
        part = elements[start : start + STEP]
        within = np.bitwise_and(part, np.uint16(0x7FFF), out=magnitude[: part.size])
        if within.max() >= infinite:
            return start + int((within >= infinite).argmax())
    return None


def _first_of_floats(elements: Array) -> int | None:
    for start in range(0, elements.size, STEP):
        finite = np.isfinite(elements[start : start + STEP])
        if not finite.all():
            return start + int(finite.argmin())
    return None
