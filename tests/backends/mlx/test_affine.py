"""Codes, scales and biases as the MLX backend takes them from blocks, beside what `puna.quants` reads."""

import mlx.core as mx
import numpy as np
import pytest

from puna import quants
from puna.backends.mlx.values import CODED, GROUP, Affine, packed
from puna.dtypes import DTYPES


@pytest.mark.parametrize("name", CODED)
def test_codes_stand_for_the_values_that_quants_reads_to_the_bit(name):
    values = np.random.default_rng(5).standard_normal((6, 512)).astype(np.float32)
    raw = quants.quantize(values, name)
    expected = quants.dequantize(raw, name, values.shape)
    codes, scales, biases = CODED[name].read(raw.reshape(-1, DTYPES[name].block_bytes))
    found = codes.reshape(-1, GROUP) * scales[:, None] + biases[:, None]
    np.testing.assert_array_equal(found.reshape(values.shape), expected)
    with mx.stream(mx.cpu):
        np.testing.assert_array_equal(np.array(Affine(raw, DTYPES[name], values.shape).values()), expected)


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_codes_are_a_stream_of_bits_from_the_lowest(bits):
    codes = np.random.default_rng(bits).integers(0, 2**bits, (3, 64)).astype(np.uint8)
    for row, words in zip(codes, packed(codes, bits), strict=True):
        stream = sum(int(code) << (bits * i) for i, code in enumerate(row))
        assert words.tolist() == [stream >> (32 * i) & 0xFFFFFFFF for i in range(64 * bits // 32)]
