"""The matrix kernels of the CPU backend on every instruction set of this machine, against float64."""

import numpy as np
import pytest

from puna.backends.cpu import _native as native
from puna.backends.cpu.weights import has_product
from puna.dtypes import DTYPES
from puna.quants import dequantize

FLOATS = ("F32", "F16", "BF16")
SHORTS = ("F16", "BF16")
SMALL = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4", "NVFP4", "Q1_0")
BIG = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "TQ1_0", "TQ2_0")
BIG += ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS")
WIDE = frozenset(BIG) - {"Q8_K", "TQ1_0", "TQ2_0"}  # activations share a scale over 64 columns, not 32
TYPES = FLOATS + SMALL + BIG
HALVES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,)}
HALVES |= {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "TQ1_0": (52,), "TQ2_0": (64,), "Q1_0": (0,)}
HALVES |= {name: (0,) for name in TYPES if name.startswith("IQ")}
HALVES |= dict.fromkeys(("IQ1_M", "Q8_K", "MXFP4", "NVFP4"), ())
ISAS = native.isas()


def random_weight(name, n, k, seed=0):
    """Return the stored bytes of a random weight: every bit of its integers and small scales is used."""
    rng = np.random.default_rng(seed)
    dtype = DTYPES[name]
    assert has_product(dtype)
    if name in FLOATS:
        values = rng.standard_normal((n, k), dtype=np.float32)
        if name == "BF16":
            return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).ravel()
        return values.astype(dtype.numpy).view(np.uint8).ravel()
    blocks = rng.integers(0, 256, (n * k // dtype.block_size, dtype.block_bytes), dtype=np.uint8)
    for place in HALVES[name]:
        blocks[:, place : place + 2] = (rng.standard_normal((len(blocks), 1)) / 64).astype("<f2").view(np.uint8)
    if name == "IQ1_M":  # the scale's four digits of 4 bits lie on top of four words
        halves = (rng.standard_normal(len(blocks)) / 64).astype("<f2").view(np.uint16)
        for i in range(4):
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | (halves >> 4 * i & 15) << 4
    if name == "MXFP4":
        blocks[:, 0] = rng.integers(115, 125, len(blocks))
    if name == "Q8_K":
        blocks[:, :4] = rng.standard_normal((len(blocks), 1), dtype=np.float32).view(np.uint8)
    return blocks.ravel()


def packed(name, n, k, threads=1, seed=0):
    """Return a random weight packed, and its values as the kernels see them, float64 (n, k)."""
    raw = random_weight(name, n, k, seed)
    values = dequantize(raw, name, (n, k)).astype(np.float64)
    if name in SHORTS:
        values = in_shorts(values, lambda most, peak: np.exp2(np.floor(np.log2(most / peak))))
    return native.linear_pack(DTYPES[name].ggml_id, n, k, raw, threads), values


def in_shorts(x, scale_of):
    """Return `x` as int16 with one scale per 32 columns, none larger than 32767, their Euclidean norm below 46337."""
    columns, f = x.shape[1], np.float32
    blocks = np.pad(x.astype(f), ((0, 0), (0, -columns % 32))).reshape(len(x), -1, 32)
    peak = np.abs(blocks).max(axis=-1, keepdims=True)
    whole = np.where(peak < 1e-30, f(1), peak)
    squares = (blocks * (f(1) / whole)) ** 2
    for width in (16, 8, 4, 2, 1):  # in pairs: an order of its own would round some integers otherwise
        squares = squares[..., :width] + squares[..., width:]
    most = np.minimum(f(32767), f(46336) / np.sqrt(np.maximum(squares, f(1))))
    scale = scale_of(most, whole)
    integers = np.where(peak < 1e-30, 0, np.rint(blocks * scale)).astype(np.float64)
    assert np.sqrt((integers**2).sum(axis=-1)).max() < 2**15.5
    return (integers / scale.astype(np.float64)).reshape(len(x), -1)[:, :columns]


def inputs(t, k, seed=1):
    return np.random.default_rng(seed).standard_normal((t, k), dtype=np.float32)


def rounded(name, x):
    """Return `x` as the kernels see it: integers with one scale per 32 or 64 but for F32 weights, float64."""
    if name == "F32":
        return x.astype(np.float64)
    if name in SHORTS:
        return in_shorts(x, lambda most, peak: np.floor(most) / peak)
    blocks = x.reshape(len(x), -1, 64 if name in WIDE else 32)
    peak = np.abs(blocks).max(axis=-1, keepdims=True)
    scale = np.float32(127) / np.where(peak < 1e-30, np.float32(np.inf), peak)
    integers = np.rint(blocks * scale).astype(np.float64)
    return (integers * (peak / np.float32(127))).reshape(x.shape)


def error(y, x, w):
    """Return the largest error of y = x W^T relative to the sum of the products' magnitudes."""
    return float((np.abs(y - x @ w.T) / (np.abs(x) @ np.abs(w.T) + 1e-300)).max())


SHAPES = [(1, 256), (15, 512), (16, 256), (17, 768), (48, 1536)]
SMALL_SHAPES = [(1, 32), (17, 64), (16, 96), (9, 128), (576, 576)]


def shapes_of(name):
    return SHAPES + [(n, k) for n, k in SMALL_SHAPES if k % DTYPES[name].block_size == 0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", TYPES)
def test_a_product_is_exact_for_the_rounded_activations(name, isa):
    for n, k in shapes_of(name):
        weight, w = packed(name, n, k)
        for t in (1, 2, 3, 5, 16, 17):
            x = inputs(t, k)
            assert error(native.linear(weight, x, isa), rounded(name, x), w) < 1e-6, (n, k, t)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", TYPES)
def test_many_rows_on_two_threads_are_exact_too(name, isa):
    n, k = 200, 512
    weight, w = packed(name, n, k, threads=2)
    for t in (64, 513):
        x = inputs(t, k)
        assert error(native.linear(weight, x, isa, threads=2), rounded(name, x), w) < 1e-6, t


@pytest.mark.parametrize("name", TYPES)
def test_a_panel_larger_than_a_cache_is_still_cut(name):
    n, k = 40, 16384
    weight, w = packed(name, n, k)
    for t in (1, 4, 17):
        x = inputs(t, k)
        assert error(native.linear(weight, x, threads=2), rounded(name, x), w) < 1e-6, t


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", TYPES)
def test_rounding_activations_loses_less_than_one_percent(name, isa):
    weight, w = packed(name, 64, 1024)
    x = inputs(32, 1024)
    y, exact = native.linear(weight, x, isa), x.astype(np.float64) @ w.T
    assert np.sqrt(np.mean((y - exact) ** 2) / np.mean(exact**2)) < 0.01


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", TYPES)
def test_a_row_is_bitwise_the_same_alone_and_in_a_batch(name, isa):
    n, k = 100, 512
    weight, _ = packed(name, n, k)
    x = inputs(79, k)
    alone = np.concatenate([native.linear(weight, row[None], isa) for row in x])
    for t, threads in ((79, 1), (79, 2), (79, 3), (31, 2), (16, 2), (7, 1), (2, 2)):
        np.testing.assert_array_equal(native.linear(weight, x[:t], isa, threads=threads), alone[:t])
    np.testing.assert_array_equal(native.linear(weight, np.roll(x, 5, axis=0), isa), np.roll(alone, 5, axis=0))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", SMALL + BIG)
def test_a_row_is_bitwise_the_same_in_batches_of_up_to_forty(name, isa):
    parts = [(33, 96)] if DTYPES[name].block_size == 32 else []  # a part of a chunk of columns
    for n, k in [(97, 768), *parts]:
        weight, _ = packed(name, n, k)
        x = inputs(40, k)
        alone = np.concatenate([native.linear(weight, row[None], isa) for row in x])
        for t in range(1, 41):
            np.testing.assert_array_equal(native.linear(weight, x[:t], isa), alone[:t])


@pytest.mark.parametrize("name", SMALL + BIG)
def test_a_row_is_bitwise_the_same_in_a_batch_of_several_bands(name):
    weight, _ = packed(name, 400, 512)
    x = inputs(613, 512)
    alone = np.concatenate([native.linear(weight, row[None]) for row in x[::9]])
    for threads in (1, 3):
        np.testing.assert_array_equal(native.linear(weight, x, threads=threads)[::9], alone)


@pytest.mark.parametrize("name", SMALL + BIG)
def test_vector_instruction_sets_agree_bitwise(name):
    weight, _ = packed(name, 48, 512)
    x = inputs(21, 512)
    for isa in set(ISAS) - {"generic"}:
        np.testing.assert_array_equal(native.linear(weight, x, isa), native.linear(weight, x, "auto"), isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", TYPES)
def test_bias_and_residual_are_added_once(name, isa):
    n, k, t = 37, 256, 19
    weight, _ = packed(name, n, k)
    x, bias, start = inputs(t, k), inputs(1, n, 2)[0], inputs(t, n, 3)
    plain = native.linear(weight, x, isa)
    np.testing.assert_array_equal(native.linear(weight, x, isa, bias=bias), plain + bias)
    np.testing.assert_array_equal(native.linear(weight, x, isa, start=start), start + plain)
    both = native.linear(weight, x, isa, threads=2, bias=bias, start=start)
    np.testing.assert_array_equal(both, start + (plain + bias))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", TYPES)
def test_zero_tiny_and_huge_activations_stay_finite(name, isa):
    weight, w = packed(name, 20, 256)
    assert not native.linear(weight, np.zeros((3, 256), np.float32), isa).any()
    assert np.isfinite(native.linear(weight, np.full((3, 256), 1e-42, np.float32), isa)).all()
    x = inputs(3, 256) * np.float32(1e30)
    y = native.linear(weight, x, isa)
    assert error(y, rounded(name, x), w) < 1e-6


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("place", [0, 40, 255])
def test_nan_poisons_its_row_and_no_other(name, isa, place):
    weight, _ = packed(name, 20, 256)
    x = inputs(18, 256)
    clean = native.linear(weight, x, isa)
    x[4, place] = np.nan
    y = native.linear(weight, x, isa)
    assert np.isnan(y[4]).all()
    np.testing.assert_array_equal(np.delete(y, 4, axis=0), np.delete(clean, 4, axis=0))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["F32", "Q4_0", "Q8_0", "Q6_K"])
def test_infinity_stays_infinite_with_the_sign_of_the_weight(name, isa):
    weight, w = packed(name, 20, 256)
    x = inputs(2, 256)
    x[1, 70] = -np.inf
    y = native.linear(weight, x, isa)[1]
    with np.errstate(invalid="ignore"):
        expected = -np.inf * w[:, 70]
    np.testing.assert_array_equal(y, expected.astype(np.float32))


@pytest.mark.parametrize("name", TYPES)
def test_embedding_rows_are_the_dequantized_rows(name):
    n, k = 35, 768
    raw = random_weight(name, n, k)
    w = dequantize(raw, name, (n, k))
    ids = np.array([34, 0, 17, 16, 15, 17], np.int32)
    weight = native.linear_pack(DTYPES[name].ggml_id, n, k, raw, 2)
    if name in SHORTS:
        with pytest.raises(ValueError, match="rounded"):
            native.linear_embed(weight, ids)
    else:
        np.testing.assert_array_equal(native.linear_embed(weight, ids), w[ids])
    np.testing.assert_array_equal(native.linear_embed_raw(DTYPES[name].ggml_id, raw, n, k, ids), w[ids])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["MXFP4", "NVFP4"])
def test_every_byte_of_an_eight_bit_scale_is_read_exactly(name, isa):
    dtype = DTYPES[name]
    n, k = 256, 2 * dtype.block_size
    blocks = np.random.default_rng(0).integers(0, 256, (n, 2, dtype.block_bytes), dtype=np.uint8)
    blocks[:, :, 0] = np.arange(256)[:, None]
    blocks[:, :, 1 : 4 if name == "NVFP4" else 1] = 0
    raw = blocks.reshape(-1)
    w = dequantize(raw, name, (n, k))
    weight = native.linear_pack(dtype.ggml_id, n, k, raw)
    np.testing.assert_array_equal(native.linear_embed(weight, np.arange(n, dtype=np.int32)), w)
    column = 5
    x = np.zeros((1, k), np.float32)
    x[0, column] = 1 / 128
    some = slice(240 if name == "MXFP4" else n)  # larger ones times integers of activations pass the largest float
    expected = w[some, column].astype(np.float64) / 128
    np.testing.assert_allclose(native.linear(weight, x, isa)[0, some], expected, rtol=1e-6, atol=1e-42)


def test_packed_weights_take_about_the_bits_of_stored_ones():
    bits = {name: packed(name, 64, 1536)[0].nbytes * 8 / (64 * 1536) for name in TYPES}
    assert bits == {
        **{"F32": 32, "F16": 16.25, "BF16": 16.25, "Q4_0": 4.5, "Q4_1": 5, "Q5_0": 5.5, "Q5_1": 6, "Q8_0": 8.5},
        **{"Q2_K": 2.625, "Q3_K": 3.625, "Q4_K": 4.625, "Q5_K": 5.625, "Q6_K": 6.625, "Q8_K": 8.125},
        **{"IQ1_S": 2.375, "IQ1_M": 3.625, "IQ2_XXS": 3.375, "IQ2_XS": 3.625, "IQ2_S": 3.625, "IQ3_XXS": 4.375},
        **{"IQ3_S": 4.375, "IQ4_NL": 4.5, "IQ4_XS": 4.375, "MXFP4": 4.25, "NVFP4": 4.5},
        **{"TQ1_0": 2.125, "TQ2_0": 2.125, "Q1_0": 1.5},
    }


def test_bad_arguments_are_refused():
    weight, _ = packed("Q8_0", 16, 64)
    with pytest.raises(ValueError, match="type 9999 is unknown"):
        native.linear_pack(9999, 1, 32, np.zeros(34, np.uint8))
    with pytest.raises(ValueError, match="3 bytes are not the grid of type 19"):
        native.take_grid(19, np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="33 bytes are not 1 rows of 32"):
        native.linear_pack(8, 1, 32, np.zeros(33, np.uint8))
    with pytest.raises(ValueError, match=r"x must be \(t, 64\)"):
        native.linear(weight, np.zeros((1, 32), np.float32))
    with pytest.raises(ValueError, match="'sse9' is unknown or does not run here; these do: auto generic"):
        native.linear(weight, np.zeros((1, 64), np.float32), "sse9")
    with pytest.raises(IndexError):
        native.linear_embed(weight, np.array([16], np.int32))
