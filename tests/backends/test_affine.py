"""Codes, scales and biases as libraries are given them, beside what `puna.quants` reads."""

import numpy as np
import pytest

from puna import quants
from puna.backends.affine import TYPES
from puna.dtypes import DTYPES


@pytest.mark.parametrize("name", TYPES)
def test_codes_stand_for_the_values_that_quants_reads_to_the_bit(name):
    values = np.random.default_rng(5).standard_normal((6, 512)).astype(np.float32)
    raw = quants.quantize(values, name)
    coded = TYPES[name]
    codes, scales, biases = coded.read(raw.reshape(-1, DTYPES[name].block_bytes))
    assert codes.max() < 1 << coded.bits
    assert codes.shape[1] == coded.group
    expected = quants.dequantize(raw, name, values.shape).reshape(-1, coded.group)
    np.testing.assert_array_equal(codes * scales[:, None] + biases[:, None], expected)
    if coded.zero is not None:
        np.testing.assert_array_equal((codes - np.float32(coded.zero)) * scales[:, None], expected)
