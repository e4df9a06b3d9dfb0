"""Mixtures of experts on the cpu backend: rows stay in order by expert between products, and results are the same."""

import numpy as np
import pytest

from puna import dtypes, quants
from puna.backends import numpy as definition
from puna.backends.base import Bounds
from puna.backends.cpu import _native, open_backend
from puna.errors import BackendError
from puna.graph import T, input_, weight
from puna.graph.ops import apply

HIDDEN, FFN, EXPERTS, CHOSEN = 64, 96, 7, 3
ISAS = _native.isas()


class Values:
    def __init__(self, values, dtype):
        self.shape, self.dtype = values.shape, dtypes.DTYPES[dtype]
        self.raw = np.ascontiguousarray(quants.quantize(values, dtype)).reshape(-1).view(np.uint8)

    def numpy(self):
        return quants.dequantize(self.raw, self.dtype.name, self.shape)


def stored(dtype="Q8_0"):
    rng = np.random.default_rng(1)
    shapes = {"gate": (EXPERTS, FFN, HIDDEN), "up": (EXPERTS, FFN, HIDDEN), "down": (EXPERTS, HIDDEN, FFN)}
    return {name: Values(rng.standard_normal(shape).astype(np.float32), dtype) for name, shape in shapes.items()}


def leaf(name, weights):
    return weight(name, weights[name].shape, weights[name].dtype)


def mixture(weights):
    """As nn.gated_experts writes it."""
    x, ids = input_("x", (T, HIDDEN), dtypes.F32), input_("ids", (T, CHOSEN), dtypes.I32)
    shares = input_("shares", (T, CHOSEN), dtypes.F32).reshape(T, CHOSEN, 1)
    gate, up = (apply("experts", x, leaf(name, weights), ids, None) for name in ("gate", "up"))
    y = apply("experts", apply("silu_mul", gate, up), leaf("down", weights), ids, None)
    return y, (y * shares).sum(1).reshape(T, HIDDEN)


def values(tokens, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.permutation(EXPERTS - 1)[:CHOSEN] for _ in range(tokens)]) if tokens else np.empty((0, CHOSEN))
    x, shares = (rng.standard_normal((tokens, n)).astype(np.float32) for n in (HIDDEN, CHOSEN))
    return {"x": x, "ids": ids.astype(np.int32), "shares": shares}


def program(outputs, weights, threads=2, isa="auto"):
    backend = open_backend(threads, isa)
    return backend.compile(outputs, backend.load(weights), Bounds(T=128, O=1, S=1))


def run(compiled, inputs):
    return compiled.run(inputs)[0].copy()


def test_rows_are_put_in_order_once_and_brought_back_once():
    weights = stored()
    steps = program(mixture(weights)[1:], weights).steps
    expected = ["route", "experts_act", "experts", "experts", "experts_act", "experts", "combine"]
    assert [step.kernel for step in steps] == expected


def test_products_that_somebody_else_reads_are_brought_back_for_them():
    weights, inputs = stored("F32"), values(9)
    y, total = mixture(weights)
    both = program([total, y], weights)
    assert [step.kernel for step in both.steps].count("ungroup") == 1
    results = [array.copy() for array in both.run(inputs)]
    backend = definition.open_backend()
    expected = backend.compile([total, y], backend.load(weights), Bounds(T=128, O=1, S=1)).run(inputs)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["F32", "F16", "Q4_0", "Q8_0"])
@pytest.mark.parametrize("tokens", [0, 1, 2, 17, 100])
def test_a_mixture_is_the_sum_of_what_each_chosen_expert_says(tokens, dtype, isa):
    weights, inputs = stored(dtype), values(tokens)
    gate, up, down = (weights[name].numpy() for name in ("gate", "up", "down"))
    expected = np.zeros((tokens, HIDDEN), np.float32)
    for t in range(tokens):
        for expert, share in zip(inputs["ids"][t], inputs["shares"][t], strict=True):
            g, u = gate[expert] @ inputs["x"][t], up[expert] @ inputs["x"][t]
            expected[t] += share * (down[expert] @ (g / (1 + np.exp(-g)) * u))
    result = run(program(mixture(weights)[1:], weights, isa=isa), inputs)
    assert result.shape == expected.shape
    assert ((result - expected) ** 2).sum() <= 3e-4 * (expected**2).sum()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["F32", "F16", "Q4_0", "Q8_0"])
def test_a_row_gives_the_same_alone_in_a_crowd_and_with_any_number_of_threads(dtype, isa):
    weights, inputs = stored(dtype), values(50)
    whole = run(program(mixture(weights)[1:], weights, 1, isa), inputs)
    for threads in (1, 2, 3):
        compiled = program(mixture(weights)[1:], weights, threads, isa)
        for part in (slice(0, 50), slice(7, 8), slice(7, 9), slice(3, 20), slice(48, 50)):
            result = run(compiled, {name: array[part] for name, array in inputs.items()})
            np.testing.assert_array_equal(result, whole[part])


def test_a_choice_that_is_not_there_is_an_error_and_the_program_stays_usable():
    weights, inputs = stored(), values(5)
    compiled = program(mixture(weights)[1:], weights)
    fine = run(compiled, inputs)
    for bad in (EXPERTS, 2**31 - 1):
        ids = inputs["ids"].copy()
        ids[2, 1] = bad
        with pytest.raises(BackendError, match="route among 7, 3 each: an index lies outside"):
            compiled.run(inputs | {"ids": ids})
    np.testing.assert_array_equal(run(compiled, inputs), fine)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["F32", "Q8_0"])
def test_a_row_that_chose_none_gets_nothing_and_changes_nothing_for_others(dtype, isa):
    weights, inputs = stored(dtype), values(40)
    compiled = program(mixture(weights), weights, isa=isa)
    products, sums = (array.copy() for array in compiled.run(inputs))
    some = inputs["ids"].copy()
    some[3:30] = -1
    for ids, kept in ((some, [*range(3), *range(30, 40)]), (np.full_like(some, -5), [])):
        result, total = compiled.run(inputs | {"ids": ids})
        np.testing.assert_array_equal(result[kept], products[kept])
        np.testing.assert_array_equal(total[kept], sums[kept])
        rest = [t for t in range(40) if t not in kept]
        assert not result[rest].any()
        assert not total[rest].any()


def test_products_of_products_stay_in_order_by_expert():
    rng = np.random.default_rng(5)
    shapes = {"a": (EXPERTS, 16, HIDDEN), "b": (EXPERTS, 40, 16)}
    weights = {name: Values(rng.standard_normal(shape).astype(np.float32), "F32") for name, shape in shapes.items()}
    x, ids = input_("x", (T, HIDDEN), dtypes.F32), input_("ids", (T, 1), dtypes.I32)
    shares = input_("shares", (T, 1), dtypes.F32).reshape(T, 1, 1)
    y = apply("experts", apply("experts", x, leaf("a", weights), ids, None), leaf("b", weights), ids, None)
    compiled = program([(y * shares).sum(1).reshape(T, 40)], weights)
    assert [s.kernel for s in compiled.steps] == [
        "route",
        "experts_act",
        "experts",
        "experts_act",
        "experts",
        "combine",
    ]
    inputs = {"x": rng.standard_normal((11, HIDDEN)), "shares": rng.standard_normal((11, 1))}
    inputs = {name: array.astype(np.float32) for name, array in inputs.items()}
    chosen = rng.integers(-1, EXPERTS, 11).astype(np.int32)
    result = run(compiled, inputs | {"ids": chosen[:, None]})
    for t, expert in enumerate(chosen):
        wanted = weights["b"].numpy()[expert] @ (weights["a"].numpy()[expert] @ inputs["x"][t]) * inputs["shares"][t]
        np.testing.assert_allclose(result[t], wanted if expert >= 0 else 0 * wanted, rtol=1e-4, atol=1e-4)
