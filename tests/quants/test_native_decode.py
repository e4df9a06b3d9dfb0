"""The compiled decoders give the bits that numpy gives, on every instruction set that this machine has."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.quants import CODECS, dequantize, native

ISAS = [isa for isa in native.ISAS if isa != "numpy"]
NAMES = [name for name in CODECS if name != "F32"]


def raw_blocks(name, count, seed=0):
    """Return `count` blocks of any bits: scales are often infinite or NaN."""
    return np.random.default_rng(seed).integers(0, 256, (count, CODECS[name].dtype.block_bytes), np.uint8)


def check(name, raw):
    """Compare bits; where both are NaN any will do, as processors differ in those."""
    shape = (raw.size // CODECS[name].dtype.block_bytes * CODECS[name].dtype.block_size,)
    expected = dequantize(raw, name, shape, isa="numpy")
    for isa in ISAS:
        got = dequantize(raw, name, shape, isa=isa)
        same = (got.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(got) & np.isnan(expected))
        assert same.all(), isa


@pytest.mark.parametrize("name", NAMES)
def test_any_bits_are_read_as_numpy_reads_them(name):
    check(name, raw_blocks(name, 300))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2, 3, 15, 17, 33])
def test_any_number_of_blocks_at_any_address(name, count):
    bytes_ = raw_blocks(name, count + 3, seed=count).reshape(-1)
    for offset in (0, 1, 3):
        check(name, bytes_[offset : offset + count * CODECS[name].dtype.block_bytes])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_block(name, data):
    size = CODECS[name].dtype.block_bytes
    check(name, np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8))


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_all_halves(name):
    check(name, np.arange(1 << 16, dtype=np.uint16).view(np.uint8))


def test_halves_keep_the_bits_of_a_nan_and_the_values_of_denormals():
    halves = np.array([0x7C01, 0xFE00, 0x0001, 0x83FF, 0x7C00, 0x8000], np.uint16)
    expected = [0x7F802000, 0xFFC00000, 0x33800000, 0xB87FC000, 0x7F800000, 0x80000000]
    for isa in ISAS:
        assert dequantize(halves, "F16", (6,), isa=isa).view(np.uint32).tolist() == expected


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_written_behind_the_last_value(name):
    size = CODECS[name].dtype.block_size
    for isa in ISAS:
        out = np.full(3 * size + 64, 7, np.float32)
        native.decode(name, isa, raw_blocks(name, 3).reshape(-1), out[: 3 * size])
        assert (out[3 * size :] == 7).all()


def test_threads_may_decode_bands_of_a_tensor():
    raw = raw_blocks("Q4_K", 512)
    whole = dequantize(raw, "Q4_K", (512 * 256,))
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda i: dequantize(raw[i : i + 64], "Q4_K", (64 * 256,)), range(0, 512, 64)))
    assert np.concatenate(parts).tobytes() == whole.tobytes()
