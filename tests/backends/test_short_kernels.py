"""Products with 16-bit float weights, which the kernels make of int16, where that could go wrong."""

import numpy as np
import pytest

from puna.backends.cpu import _native as native
from puna.dtypes import DTYPES

NAMES = ("F16", "BF16")
ISAS = native.isas()


def stored(name, values):
    """Return float32 values (n, k) as stored bytes, cut to the type, and what they then are."""
    values = np.ascontiguousarray(values, np.float32)
    if name == "F16":
        half = values.astype(np.float16)
        return half.view(np.uint8).ravel(), half.astype(np.float32)
    high = values.view(np.uint32) >> 16
    return high.astype(np.uint16).view(np.uint8).ravel(), (high << 16).astype(np.uint32).view(np.float32)


def product(name, w, x, isa="auto"):
    """Return x W^T, and the weights as stored."""
    raw, w = stored(name, w)
    x = np.ascontiguousarray(x, np.float32)
    return native.linear(native.linear_pack(DTYPES[name].ggml_id, *w.shape, raw), x, isa), w


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NAMES)
def test_the_error_is_a_tenth_of_rounding_activations_to_bf16_and_below_rounding_them_to_f16(name, isa):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 2048), dtype=np.float32)
    y, w = product(name, rng.standard_normal((48, 2048)), x, isa)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    _, coarse = stored("BF16", x + x * np.float32(2**-9))  # to the nearest, but for ties

    def loss(result):
        return np.sqrt(np.mean((result - exact) ** 2) / np.mean(exact**2))

    assert loss(y) < 8e-5
    assert loss(y) < loss(coarse @ w.T) / 10
    assert loss(y) < loss(x.astype(np.float16).astype(np.float64) @ w.T) / 2


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("row", ["flat", "single", "pair", "ramp", "steep"])
def test_sums_do_not_overflow_where_activations_are_parallel_to_weights(name, isa, sign, row):
    i = np.arange(64)
    shapes = {"flat": i * 0 + 1.996, "single": i % 32 == 5, "pair": i % 16 == 5, "ramp": i % 32 + 1}
    shapes["steep"] = 0.6 ** (i % 32)
    w = np.tile(np.asarray(shapes[row], np.float32), (3, 1))
    w[1] *= np.where(i % 3, 1, -1)
    _, x = stored(name, w * sign)
    y, w = product(name, w, x, isa)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    np.testing.assert_allclose(y, exact, rtol=2e-4, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("isa", ISAS)
def test_every_magnitude_of_a_bfloat_counts(isa):
    w = np.ones((21, 32)) * np.logspace(-30, 38, 21)[:, None]
    y, w = product("BF16", w, np.full((2, 32), 2.0**-10), isa)
    np.testing.assert_allclose(y, np.tile(w[:, 0] / 32, (2, 1)), rtol=1e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_weights_too_small_for_a_scale_count_as_zero(isa):
    y, _ = product("BF16", np.full((3, 32), 1e-38), np.full((2, 32), 1e30), isa)
    assert not y.any()
    y, w = product("F16", np.full((3, 32), 6e-8), np.ones((2, 32)), isa)  # a subnormal number
    np.testing.assert_allclose(y, np.full((2, 3), 32 * w[0, 0]), rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_not_finite_show_in_their_outputs_alone(name, isa):
    rng = np.random.default_rng(1)
    x = np.abs(rng.standard_normal((5, 96), dtype=np.float32)) + np.float32(0.1)
    w = rng.standard_normal((20, 96)).astype(np.float32)
    clean, _ = product(name, w, x, isa)
    w[3, 40], w[7, 95], w[8, 0], w[9, [1, 40]] = np.nan, np.inf, -np.inf, (np.inf, -np.inf)
    y, _ = product(name, w, x, isa)
    assert np.isnan(y[:, [3, 9]]).all()
    assert (y[:, 7] == np.inf).all()
    assert (y[:, 8] == -np.inf).all()
    others = np.delete(np.arange(20), [3, 7, 8, 9])
    np.testing.assert_array_equal(y[:, others], clean[:, others])


@pytest.mark.parametrize("name", NAMES)
def test_all_instruction_sets_agree_bitwise(name):
    rng = np.random.default_rng(2)
    w, x = rng.standard_normal((40, 100)), rng.standard_normal((19, 100))
    fused = [isa for isa in ISAS if isa != "generic"]  # which rounds products before it adds them
    results = [product(name, w, x, isa)[0] for isa in fused]
    for y in results:
        np.testing.assert_array_equal(y, results[0])


@pytest.mark.parametrize("k", [1, 31, 33, 100])
@pytest.mark.parametrize("name", NAMES)
def test_columns_need_not_fill_a_block(name, k):
    rng = np.random.default_rng(3)
    x = rng.integers(-8, 9, (7, k)).astype(np.float32)
    for isa in ISAS:
        y, w = product(name, rng.integers(-8, 9, (18, k)), x, isa)
        np.testing.assert_allclose(y, x @ w.T, atol=0.03)
