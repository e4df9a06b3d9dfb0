"""Encoding: the bytes are those of ggml (`reference.json`, made by `make_reference.py`), and what is refused."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from puna.errors import ConversionError
from puna.quants import CODECS, dequantize, quantize
from quants.inputs import arrays, importance

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text())
ENCODED = [name for name, codec in CODECS.items() if codec.encodes]
ARRAYS = arrays()
BLOCKS = [name for name in ENCODED if CODECS[name].dtype.quantized]
WEIGHTED = [name for name, codec in CODECS.items() if codec.weighted]


def least(name, columns=1024):
    """Return an even importance matrix for types that need one, else None."""
    return np.ones(columns, np.float32) if CODECS[name].needs_importance else None


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


@pytest.mark.parametrize("isa", ["numpy", "auto"])
@pytest.mark.parametrize("case", REFERENCE)
def test_the_bytes_are_those_that_ggml_writes(case, isa):
    name, kind, *weight = case.split(", ")
    matrix = importance()[weight[0]] if weight else None
    assert digest(quantize(ARRAYS[kind], name, matrix, isa=isa)) == REFERENCE[case]


@pytest.mark.parametrize("name", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"])
@pytest.mark.parametrize("kind", ["weights", "half precision", "large", "negative", "ties", "outliers"])
def test_the_bytes_are_those_of_the_gguf_package_where_it_agrees_with_ggml(name, kind):
    array = arrays()[kind]
    expected = gguf.quants.quantize(array, gguf.GGMLQuantizationType[name])
    assert quantize(array, name).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("count", [1, 2, 3, 257])
def test_any_number_of_blocks_gives_the_same_bytes_for_each_block(name, count):
    array = np.resize(arrays()["weights"].reshape(-1, 256), (count, 256))
    matrix = importance()["even"][:256]
    for weights in (least(name, 256), matrix):
        alone = [quantize(block[None], name, weights) for block in array[:32]]
        together = quantize(array, name, weights)
        assert [b.tobytes() for b in alone] == [b.tobytes() for b in together[:32]]


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_the_mean_square_of_a_row_does_not_depend_on_the_rows_beside_it(name):
    columns = 1056  # so that chunks end within rows
    array = np.resize(arrays()["outliers"].reshape(-1)[::-1], (130, columns))
    matrix = np.resize(importance()["spiky"], columns)
    alone = np.concatenate([quantize(row, name, matrix) for row in array])
    assert quantize(array, name, matrix).tobytes() == alone.tobytes()


def test_f16_overflows_to_infinity_and_every_nan_becomes_the_quiet_one_of_its_sign():
    bits = np.array([0x7F800001, 0x7FC00000, 0xFFFFFFFF, 0x7F800000, 0x477FF000, 0x33000000, 0x33000001], np.uint32)
    got = quantize(bits.view(np.float32), "F16").view(np.uint16)
    assert [hex(h) for h in got] == ["0x7e00", "0x7e00", "0xfe00", "0x7c00", "0x7c00", "0x0", "0x1"]


def test_bf16_rounds_to_even_and_keeps_the_upper_bits_of_a_nan():
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F800001, 0xFFBFFFFF, 0x7F7FFFFF, 0x00008000], np.uint32)
    got = quantize(bits.view(np.float32), "BF16").view(np.uint16)
    assert [hex(h) for h in got] == ["0x3f80", "0x3f82", "0x3f81", "0x7fc0", "0xffff", "0x7f80", "0x0"]


def test_f32_is_stored_as_it_is():
    assert quantize(np.float32([1.5, -0.0, np.inf]), "F32").tobytes() == bytes.fromhex("0000c03f000000800000807f")


@pytest.mark.parametrize("name", ENCODED)
def test_rows_of_bytes_keep_the_outer_dimensions(name):
    array = arrays()["weights"][:6].reshape(2, 3, 1024)
    got = quantize(array, name, least(name))
    assert got.dtype == np.uint8
    assert got.shape == (2, 3, 1024 // CODECS[name].dtype.block_size * CODECS[name].dtype.block_bytes)
    assert quantize(array[:, :0], name, least(name)).shape == (2, 0, got.shape[-1])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_float_types_and_strides_are_taken_as_their_values(dtype):
    array = arrays()["half precision"]
    strided = np.repeat(array, 2, axis=0)[::2].astype(dtype)
    assert quantize(strided, "Q4_K").tobytes() == quantize(array, "Q4_K").tobytes()


def test_the_input_is_not_changed():
    for name in ENCODED:
        array = arrays()["weights"]
        array.flags.writeable = False
        quantize(array, name, least(name))
        assert (array == arrays()["weights"]).all()


# Half the step between neighbours, as a share of the range of a block that holds -1..1 or 0..1.
STEP = {"F32": 0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 0.005, "Q5_0": 0.07, "Q5_1": 0.04, "Q4_0": 0.14, "Q4_1": 0.08}


@pytest.mark.parametrize("name", STEP)
@given(data=st.data())
def test_a_round_trip_is_off_by_at_most_a_step(name, data):
    elements = st.floats(-1, 1, width=32, allow_subnormal=False)
    array = data.draw(hnp.arrays(np.float32, (2, 64), elements=elements))
    back = dequantize(quantize(array, name), name, array.shape)
    denormal = 129 * 2.0**-25  # half a step of a float16 scale near zero, times the largest quant
    assert np.abs(back - array).max() <= STEP[name] * max(np.abs(array).max(), 1e-4) + denormal


@pytest.mark.parametrize(
    ("name", "limit"), [("Q2_K", 0.32), ("Q3_K", 0.19), ("Q4_K", 0.075), ("Q5_K", 0.038), ("Q6_K", 0.021)]
)
def test_the_error_of_k_types_is_a_small_share_of_the_values(name, limit):
    array = arrays()["weights"]
    error = dequantize(quantize(array, name), name, array.shape) - array
    assert np.sqrt((error**2).mean() / (array**2).mean()) < limit


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("IQ1_S", 0.5),
        ("IQ1_M", 0.5),
        ("IQ2_XXS", 0.36),
        ("IQ2_XS", 0.32),
        ("IQ2_S", 0.26),
        ("IQ3_XXS", 0.19),
        ("IQ3_S", 0.14),
    ],
)
def test_the_error_of_iq_types_is_a_share_of_the_values(name, limit):
    array = arrays()["weights"]
    error = dequantize(quantize(array, name, importance()["even"]), name, array.shape) - array
    assert np.sqrt((error**2).mean() / (array**2).mean()) < limit


@pytest.mark.parametrize("name", ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"])
def test_a_group_of_zeros_stays_small_and_leaves_the_groups_beside_it_as_they_are(name):
    array = arrays()["weights"][:1, :256].copy()
    array[:, 32:96] = 0
    matrix = np.ones(256, np.float32)
    back = dequantize(quantize(array, name, matrix), name, array.shape)
    for part in (slice(0, 32), slice(96, 256)):
        error = back[:, part] - array[:, part]
        assert (error**2).sum() < 0.3 * (array[:, part] ** 2).sum()
    assert np.abs(back[:, 32:96]).max() < 0.05 * np.abs(array).max()


def test_an_importance_matrix_lowers_the_weighted_error():
    array = arrays()["weights"]
    for name in WEIGHTED:
        # ggml's search for IQ2_XXS, which is followed to the byte, does not gain from a spiky one
        matrix = importance()["even" if name == "IQ2_XXS" else "spiky"]
        errors = [
            ((dequantize(quantize(array, name, m), name, array.shape) - array) ** 2 * matrix).sum()
            for m in (least(name), matrix)
        ]
        assert errors[1] < errors[0]


def test_an_importance_matrix_of_stacked_experts_is_applied_per_expert():
    array, matrix = arrays()["weights"].reshape(2, 4, 1024), np.stack([importance()[k] for k in ("even", "spiky")])
    expected = [quantize(a, "Q6_K", m).tobytes() for a, m in zip(array, matrix, strict=True)]
    assert [q.tobytes() for q in quantize(array, "Q6_K", matrix)] == expected


def test_types_without_a_use_for_it_ignore_an_importance_matrix():
    array, matrix = arrays()["weights"], importance()["spiky"]
    for name in ("F32", "F16", "BF16", "Q8_0", "TQ1_0", "TQ2_0", "Q1_0", "MXFP4", "NVFP4"):
        assert quantize(array, name, matrix).tobytes() == quantize(array, name).tobytes()


def test_memory_stays_bounded():
    array = np.zeros((4096, 1024), np.float32)
    tracemalloc.start()
    try:
        result = quantize(array, "Q4_K")
        quantizing = tracemalloc.get_traced_memory()[1] - result.nbytes
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        values = dequantize(result, "Q4_K", array.shape)
        dequantizing = tracemalloc.get_traced_memory()[1] - before - values.nbytes
    finally:
        tracemalloc.stop()
    assert quantizing < 8e6
    assert dequantizing < 4e6


def refusal(array, name, imatrix=None):
    with pytest.raises(ConversionError) as caught:
        quantize(array, name, imatrix)
    return str(caught.value)


def test_a_row_that_is_no_multiple_of_the_block_names_the_sizes_and_what_would_work():
    assert refusal(np.zeros((3, 288), np.float32), "Q4_K") == (
        "quantize: Q4_K row of 288 is not a multiple of the block size 256 (shape (3, 288)); "
        "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4 would work"
    )
    assert refusal(np.zeros(100, np.float32), "Q8_0").endswith("; F32, F16, BF16 would work")


@pytest.mark.parametrize("name", BLOCKS)
def test_values_that_are_not_finite_are_counted_and_located(name):
    array = np.zeros((2, 700, 256), np.float32)
    array[1, 650, 7], array[1, 651, 0] = np.nan, -np.inf
    assert refusal(array, name, least(name, 256)) == (
        f"quantize: {name} cannot hold NaN or infinity; 2 of 358400 values are not finite, "
        "the first (nan) at (1, 650, 7); F32, F16 or BF16 would work"
    )


@pytest.mark.parametrize("name", [name for name in BLOCKS if name not in ("MXFP4", "NVFP4")])
def test_a_scale_beyond_f16_is_refused(name):
    array = np.full((1, 256), 1e9, np.float32)
    array[0, 0] = -1e9
    assert "exceeds 65504, the largest F16" in refusal(array, name, least(name, 256))


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "MXFP4"])
@pytest.mark.parametrize("isa", ["numpy", "auto"])
def test_a_value_so_large_that_sums_of_powers_would_overflow_is_refused(name, isa):
    array = np.ones((1, 256), np.float32)
    array[0, 100] = -1e20
    with pytest.raises(ConversionError, match=r"the block scale of a value of 1e\+20 exceeds 65504, the largest F16"):
        quantize(array, name, least(name, 256), isa=isa)


def test_a_scale_beyond_that_of_nvfp4_is_refused_and_mxfp4_holds_it():
    array = np.full((1, 64), 6 * 448, np.float32)
    assert dequantize(quantize(array, "NVFP4"), "NVFP4", array.shape).tolist() == array.tolist()
    assert "a block scale of 450 exceeds 448, the largest of NVFP4" in refusal(array + 12, "NVFP4")
    array[:] = 3 * 2.0**100
    assert dequantize(quantize(array, "MXFP4"), "MXFP4", array.shape).tolist() == array.tolist()


def test_a_type_without_a_codec_is_named_beside_those_that_work():
    assert refusal(np.zeros(256, np.float32), "Q8_1") == (
        f"quantize: 'Q8_1' is known by size but has no codec yet; {', '.join(ENCODED)} would work"
    )


@pytest.mark.parametrize("name", [name for name in CODECS if name not in ENCODED])
def test_a_type_that_can_only_be_read_says_so(name):
    assert refusal(np.zeros(256, np.float32), name) == (
        f"quantize: {name} can be read but not yet written; {', '.join(ENCODED)} would work"
    )


@pytest.mark.parametrize("name", ["IQ1_S", "IQ2_XXS", "IQ2_XS"])
def test_the_smallest_types_are_not_written_without_an_importance_matrix(name):
    assert refusal(np.zeros(256, np.float32), name) == (
        f"quantize: {name} needs an importance matrix to be written; one, or another type, would work"
    )


def test_what_is_no_type_or_no_float_array_is_refused():
    assert "'Q9_Z' is not a type" in refusal(np.zeros(256, np.float32), "Q9_Z")
    assert "the array is int32" in refusal(np.zeros(256, np.int32), "Q8_0")
    assert "a scalar has no rows" in refusal(np.float32(1), "F32")


def test_importance_matrices_that_cannot_be_used_are_refused():
    array = np.zeros((2, 256), np.float32)
    assert "shape (255,) for an array of shape (2, 256)" in refusal(array, "Q4_K", np.ones(255))
    assert "not finite" in refusal(array, "Q4_K", np.full(256, np.nan))
