"""The compiled codecs write the bytes that numpy writes, on every instruction set that this machine has."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from puna.errors import ConversionError
from puna.quants import CODECS, native, quantize
from quants.inputs import arrays, bell, importance

ISAS = [isa for isa in native.ISAS if isa != "numpy"]
NAMES = [name for name, codec in CODECS.items() if codec.encodes and native.encodes(name, "auto")]
WEIGHTED = [name for name in CODECS if name in NAMES and CODECS[name].weighted] or ["Q4_0"]
NEEDY = [name for name in NAMES if CODECS[name].needs_importance]


def cases():
    """Return name -> array (rows, 256) that fit in one call: two chunks, and part of a third."""
    found = {kind: array[:, :256] if kind != "constant" else array.reshape(-1, 256) for kind, array in arrays().items()}
    found["heavy tails"] = (bell(31, 35, 256) ** 7 * 3).astype(np.float32)
    found["tiny"] = found["weights"] * np.float32(1e-14)
    found["one value"] = np.pad(found["weights"][:, :1], ((0, 0), (100, 155)))
    found["nearly constant"] = np.float32(1) + found["weights"] * np.float32(1e-6)
    return found


CASES = cases()


def outcome(*arguments, **options):
    """Return the bytes, or the error's text up to the values."""
    try:
        return quantize(*arguments, **options).tobytes()
    except ConversionError as error:
        return str(error).split(" of ")[0]


def check(array, name, matrix=None):
    expected = outcome(array, name, matrix, isa="numpy")
    for isa in ISAS:
        assert outcome(array, name, matrix, isa=isa) == expected, isa


def even(name, columns):
    return np.ones(columns, np.float32) if name in NEEDY else None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", CASES)
def test_the_bytes_are_those_of_numpy(name, kind):
    check(CASES[kind], name, even(name, 256))


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("kind", CASES)
def test_with_an_importance_matrix_the_bytes_are_those_of_numpy(name, kind):
    for matrix in importance().values():
        check(CASES[kind], name, matrix[:256])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 33])
def test_any_number_of_rows_and_blocks(name, rows):
    size = max(32, CODECS[name].dtype.block_size)
    for columns in (size, 3 * size):
        array = np.resize(CASES["weights"].reshape(-1)[::-1], (rows, columns))
        check(array, name, even(name, columns))
        if name in WEIGHTED:
            check(array, name, np.resize(importance()["spiky"], columns))


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_floats(name, data):
    elements = st.floats(width=32, allow_nan=name in ("F32", "F16", "BF16"), allow_infinity=name in ("F16", "BF16"))
    array = data.draw(hnp.arrays(np.float32, (2, 256), elements=elements, fill=elements))
    matrix = even(name, 256)
    if name in WEIGHTED and data.draw(st.booleans()):
        matrix = data.draw(hnp.arrays(np.float32, 256, elements=st.floats(0, 1e6, width=32)))
    check(array, name, matrix)


@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32), spread=st.integers(0, 12), exponent=st.integers(-130, 18), coarse=st.booleans())
def test_blocks_of_any_scale_and_shape(name, seed, spread, exponent, coarse):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 512)) * 2.0 ** (rng.integers(-spread, spread + 1, (3, 16)).repeat(32, 1) + exponent)
    array = (np.round(x * 8 / 2.0**exponent) * 2.0**exponent if coarse else x).astype(np.float32)
    check(array, name, even(name, 512))
    if name in WEIGHTED:
        check(array, name, rng.random(512).astype(np.float32) ** rng.integers(0, 9))


@pytest.mark.parametrize("name", NAMES)
def test_other_element_types_are_read_as_their_values(name):
    half = CASES["half precision"].astype(np.float16)
    bits = (CASES["weights"].view(np.uint32) >> 16).astype(np.uint16)
    floats = (bits.astype(np.uint32) << 16).view(np.float32)
    matrix = even(name, 256)
    for isa in native.ISAS:
        assert (quantize(half, name, matrix, isa=isa) == quantize(half.astype(np.float32), name, matrix)).all()
        assert (quantize(half.astype(">f8"), name, matrix, isa=isa) == quantize(half, name, matrix)).all()
        assert (quantize(bits, name, matrix, bf16=True, isa=isa) == quantize(floats, name, matrix)).all()


def test_every_half_and_every_bfloat_is_read():
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = bits.view(np.float16)
    for isa in native.ISAS:
        got = quantize(bits, "F32", bf16=True, isa=isa).view(np.uint32)
        assert (got == bits.astype(np.uint32) << 16).all()
        assert np.array_equal(
            quantize(values, "F32", isa=isa).view(np.float32), values.astype(np.float32), equal_nan=True
        )


def test_halves_round_as_numpy_rounds_them():
    bits = np.arange(1 << 16, dtype=np.uint32)
    for offset in (0, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        check((bits << 16 | offset).astype(np.uint32).view(np.float32), "F16")
        check((bits << 16 | offset).astype(np.uint32).view(np.float32), "BF16")


@pytest.mark.parametrize("isa", ISAS)
def test_experts_have_weights_of_their_own(isa):
    array, matrix = arrays()["weights"].reshape(2, 4, 1024), np.stack([importance()[k] for k in ("even", "spiky")])
    for name in WEIGHTED:
        assert (quantize(array, name, matrix, isa=isa) == quantize(array, name, matrix, isa="numpy")).all()


@pytest.mark.parametrize("isa", native.ISAS)
def test_the_result_goes_where_it_is_wanted(isa):
    array, out = CASES["weights"], np.zeros((9, 272), np.uint8)
    assert np.shares_memory(quantize(array, "Q8_0", out=out[1:], isa=isa), out)
    assert (out[1:] == quantize(array, "Q8_0")).all()
    assert not out[0].any()
    with pytest.raises(ConversionError, match=r"contiguous uint8 of shape \(8, 272\) would work"):
        quantize(array, "Q8_0", out=out, isa=isa)


@pytest.mark.parametrize("isa", native.ISAS)
def test_bits_of_bfloats_are_asked_for(isa):
    with pytest.raises(ConversionError, match="the array is uint16; float16, float32 or float64 would work"):
        quantize(np.zeros(32, np.uint16), "Q8_0", isa=isa)
    with pytest.raises(ConversionError, match="the array is float32; uint16, the bits of BF16, would work"):
        quantize(np.zeros(32, np.float32), "Q8_0", bf16=True, isa=isa)


def test_an_instruction_set_that_is_not_there_is_refused():
    with pytest.raises(ConversionError, match=f"does not run 'z80'; auto, {', '.join(native.ISAS)} would work"):
        quantize(np.zeros(32, np.float32), "Q8_0", isa="z80")


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K"])
def test_threads_may_each_encode_some_rows(name):
    array = np.resize(CASES["weights"], (257, 256))
    expected, out = quantize(array, name), np.zeros_like(quantize(array, name))
    bands = [slice(start, start + 17) for start in range(0, 257, 17)]
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(quantize, array[band], name, out=out[band]) for band in bands]:
            future.result()
    assert (out == expected).all()


def test_where_nothing_was_compiled_numpy_does_it():
    script = (
        "import sys; sys.modules['puna.quants._native'] = None\n"
        "import numpy; from puna.quants import native, quantize\n"
        "print(native.ISAS, quantize(numpy.arange(32, dtype='f4'), 'Q8_0')[:4].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "('numpy',) [208, 51, 0, 4]\n"
