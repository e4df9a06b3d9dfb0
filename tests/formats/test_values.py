"""Stored bytes as values, against NumPy, hand-written codes, and the definitions of the 8-bit floats."""

import math
from typing import Any

import numpy as np
import pytest

from puna.dtypes import DTYPES
from puna.errors import FormatError
from puna.formats import to_values


def stored(array: Any) -> Any:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("I8", np.array([[-128, 127]], "i1")),
        ("I16", np.array([[-32768, 1]], "<i2")),
        ("I32", np.array([[-(2**31), 1]], "<i4")),
        ("I64", np.array([[-(2**63), 1]], "<i8")),
        ("U8", np.array([[255, 0]], "u1")),
        ("U16", np.array([[65535, 0]], "<u2")),
        ("U32", np.array([[2**32 - 1, 0]], "<u4")),
        ("U64", np.array([[2**64 - 1, 0]], "<u8")),
        ("BOOL", np.array([[True, False]])),
        ("F32", np.array([[1.5, -np.inf]], "<f4")),
    ],
)
def test_integers_bools_and_f32_come_back_as_they_are(name: str, array: Any) -> None:
    values = to_values(stored(array), DTYPES[name], (1, 2))
    assert values.dtype == array.dtype
    np.testing.assert_array_equal(values, array)


def test_f16_f64_and_bf16_become_float32() -> None:
    assert to_values(stored(np.array([0x3C00, 0xC000, 0x0001, 0x7C00], "<u2")), DTYPES["F16"], (4,)).tolist() == [
        1.0,
        -2.0,
        2.0**-24,
        math.inf,
    ]
    f64 = to_values(stored(np.array([0.1, 1e300])), DTYPES["F64"], (2,))
    assert f64.dtype == np.float32
    assert f64.tolist() == [float(np.float32(0.1)), math.inf]
    bf16 = to_values(stored(np.array([0x3F80, 0xC040, 0x7F80, 0x0001], "<u2")), DTYPES["BF16"], (2, 2))
    assert bf16.dtype == np.float32
    assert bf16.tolist() == [[1.0, -3.0], [math.inf, 2.0**-133]]


def small_float(code: int, exponent_bits: int, fraction_bits: int, ieee: bool) -> float:
    """An 8-bit float by its definition, one code at a time."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent = code >> fraction_bits & (1 << exponent_bits) - 1
    fraction = (code & (1 << fraction_bits) - 1) / (1 << fraction_bits)
    bias = (1 << exponent_bits - 1) - 1
    if ieee and exponent == (1 << exponent_bits) - 1:
        return sign * math.inf if fraction == 0 else math.nan
    if not ieee and code & 0x7F == 0x7F:
        return math.nan
    return sign * (fraction * 2.0 ** (1 - bias) if exponent == 0 else (1 + fraction) * 2.0 ** (exponent - bias))


@pytest.mark.parametrize(("name", "layout"), [("F8_E4M3", (4, 3, False)), ("F8_E5M2", (5, 2, True))])
def test_every_code_of_an_8_bit_float_has_its_value(name: str, layout: tuple[int, int, bool]) -> None:
    values = to_values(np.arange(256, dtype=np.uint8), DTYPES[name], (256,))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.array([small_float(code, *layout) for code in range(256)], np.float32))
    np.testing.assert_array_equal(np.signbit(values), np.arange(256) >= 128)


def test_the_largest_8_bit_floats_are_448_and_57344() -> None:
    assert to_values(np.array([0x7E], np.uint8), DTYPES["F8_E4M3"], (1,))[0] == 448
    assert to_values(np.array([0x7B], np.uint8), DTYPES["F8_E5M2"], (1,))[0] == 57344


def test_block_types_are_dequantized_to_float32() -> None:
    block = np.concatenate([np.array([0x4000], "<u2").view(np.uint8), np.arange(32, dtype=np.int8).view(np.uint8)])
    values = to_values(block, DTYPES["Q8_0"], (1, 32))  # scale 2.0, then the quants
    assert values.dtype == np.float32
    assert values.tolist() == [[2.0 * n for n in range(32)]]


def test_a_scalar_has_no_dimensions() -> None:
    assert to_values(stored(np.float32(3)), DTYPES["F32"], ()).tolist() == 3.0


def test_too_few_bytes_for_a_shape_are_refused() -> None:
    with pytest.raises(FormatError, match=r"F32: 4 bytes for shape \(2,\), which needs 8"):
        to_values(np.zeros(4, np.uint8), DTYPES["F32"], (2,))
