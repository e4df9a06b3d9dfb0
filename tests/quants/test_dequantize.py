"""Decoding: every type equals the gguf package value for value; Q1_0 and Q8_K, which that lacks, equal a plain loop."""

import struct

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.dtypes import DTYPES
from puna.errors import ConversionError, FormatError
from puna.quants import CODECS, dequantize
from quants.inputs import noise


def same_values(got, expected):
    """Whether bits are equal; any NaN equals any other."""
    both_nan = np.isnan(got) & np.isnan(expected)
    return bool(((got.view(np.uint32) == expected.view(np.uint32)) | both_nan).all())


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # inf - inf within the gguf package
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # likewise, scales of MXFP4
@pytest.mark.parametrize("name", [name for name in CODECS if name not in ("Q1_0", "Q8_K")])
def test_random_bytes_have_the_values_of_the_gguf_package(name):
    dtype = DTYPES[name]
    shape = (5, 130 * dtype.block_size)
    raw = (noise(dtype.nbytes(shape), 31) * 256).astype(np.uint8)
    expected = gguf.quants.dequantize(raw.reshape(5, -1), gguf.GGMLQuantizationType[name])
    got = dequantize(raw, name, shape)
    assert got.dtype == np.float32
    assert got.shape == shape
    assert same_values(got, expected.reshape(shape))


@given(st.binary(min_size=584, max_size=584))
def test_q8_k_has_the_values_of_a_plain_loop(raw):
    expected = []
    for start in (0, 292):
        scale = np.frombuffer(raw, "<f4", 1, start)[0]
        with np.errstate(all="ignore"):
            expected += [scale * np.float32(q) for q in struct.unpack_from("<256b", raw, start + 4)]
    got = dequantize(np.frombuffer(raw, np.uint8), "Q8_K", (2, 256))
    assert same_values(got.reshape(-1), np.array(expected, np.float32))


@given(st.binary(min_size=36, max_size=36))
def test_q1_0_has_the_values_of_a_plain_loop(raw):
    expected = []
    for start in (0, 18):
        scale = struct.unpack_from("<e", raw, start)[0]
        bits = int.from_bytes(raw[start + 2 : start + 18], "little")
        expected += [scale if bits >> j & 1 else -scale for j in range(128)]
    got = dequantize(np.frombuffer(raw, np.uint8), "Q1_0", (256,))
    assert same_values(got, np.array(expected, np.float32))


def test_blocks_written_by_hand_have_the_values_of_their_definition():
    one, half = struct.pack("<e", 1.0), struct.pack("<e", 0.5)
    q4_0 = half + bytes([0xF0] + [0x88] * 15)
    assert dequantize(np.frombuffer(q4_0, np.uint8), "Q4_0", (32,)).tolist() == [-4.0, *[0.0] * 15, 3.5, *[0.0] * 15]
    q8_0 = half + struct.pack("<32b", -128, 127, *[0] * 30)
    assert dequantize(np.frombuffer(q8_0, np.uint8), "Q8_0", (32,)).tolist() == [-64.0, 63.5, *[0.0] * 30]
    q6_k = bytes(128) + bytes(64) + struct.pack("<16b", *range(16)) + one
    expected = [-32.0 * group for group in range(16) for _ in range(16)]
    assert dequantize(np.frombuffer(q6_k, np.uint8), "Q6_K", (256,)).tolist() == expected


def test_f32_is_a_view_and_bytes_at_odd_offsets_are_read():
    buffer = np.zeros(9, np.uint8)
    buffer[1:] = np.frombuffer(struct.pack("<2f", 1.5, -2.0), np.uint8)
    values = dequantize(buffer[1:], "F32", (2,))
    assert values.tolist() == [1.5, -2.0]
    assert np.shares_memory(values, buffer)
    assert dequantize(buffer[1:], "BF16", (4,)).tolist() == [0.0, 1.5, 0.0, -2.0]


def test_read_only_bytes_of_any_shape_are_decoded():
    raw = np.frombuffer(bytes(2 * 34), np.uint8).reshape(2, 34)
    assert dequantize(raw, "Q8_0", (1, 2, 32)).shape == (1, 2, 32)
    assert dequantize(raw[:0], "Q8_0", (0, 32)).shape == (0, 32)
    assert dequantize(np.zeros(4, np.uint8), "F32", ()).shape == ()


def test_bytes_that_do_not_match_the_shape_are_refused():
    with pytest.raises(FormatError, match=r"dequantize Q4_0: 35 bytes for shape \(2, 32\), which takes 36"):
        dequantize(np.zeros(35, np.uint8), "Q4_0", (2, 32))
    with pytest.raises(FormatError, match="row of 100 is not a multiple of the block size 256"):
        dequantize(np.zeros(144, np.uint8), "Q4_K", (100,))


def test_a_type_without_a_codec_is_named_beside_those_that_work():
    with pytest.raises(ConversionError) as caught:
        dequantize(np.zeros(1, np.uint8), "Q8_1", (32,))
    assert str(caught.value) == (
        f"dequantize: 'Q8_1' is known by size but has no codec yet; {', '.join(CODECS)} would work"
    )
