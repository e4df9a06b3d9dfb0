"""Graph passes and planning, and programs that compute nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna import dtypes
from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.backends.definition import evaluate
from puna.errors import BackendError
from puna.graph import O, T, constant, fused, input_, state, topological, weight  # noqa: F401
from puna.graph.cases import CASES, cases
from puna.graph.lower import decompose, fold, lower, share
from puna.graph.ops import OPS, apply
from puna.graph.plan import ALIGNMENT, Life, plan

BOUNDS = Bounds(T=128, O=8, S=64)


class Stored:
    def __init__(self, shape):
        self.shape = shape


def ops(outputs):
    return [node.op for node in topological(outputs)]


def x(*shape, name="x"):
    return input_(name, shape, dtypes.F32)


def test_an_unsupported_fused_op_becomes_its_meaning():
    node = apply("silu_mul", x(T, 4), x(T, 4, name="y"))
    assert ops(decompose([node], lambda n: True, "b")) == ["input", "input", "silu_mul"]
    without = decompose([node], lambda n: n.op != "silu_mul", "b")
    assert "silu" in ops(without)
    core = decompose([node], lambda n: not OPS[n.op].fused, "b")
    assert not any(OPS[op].fused for op in ops(core))


def test_an_unsupported_core_op_is_an_error_that_names_it_and_the_backend():
    with pytest.raises(BackendError, match="backend 'b' cannot run op 'erf'"):
        decompose([apply("gelu", x(T, 4), approximate=False)], lambda n: n.op not in ("erf", "gelu"), "b")


def test_equal_nodes_become_one():
    a = x(T, 4)
    (shared,) = share([(a + 1.0) * (a + 1.0)])
    assert shared.inputs[0] is shared.inputs[1]


def test_writes_are_never_merged():
    kept, slots, values = state("s", (4, 2), dtypes.F32), input_("i", (T,), dtypes.I32), x(T, 2)
    first, second = share([apply("write", kept, slots, values), apply("write", kept, slots, values)])
    assert first is not second


def test_nodes_of_different_attributes_stay_apart():
    a = x(T, 4)
    first, second = share([a.slice(1, 0, 2), a.slice(1, 2, 4)])
    assert first is not second


def test_constants_are_folded_if_small():
    (folded,) = fold([constant(np.arange(3)) + constant(np.int32(2))], evaluate)
    assert folded.op == "constant"
    np.testing.assert_array_equal(folded.attrs["value"], [2, 3, 4])
    large = apply("expand", constant(np.zeros((1, 1))), shape=(1 << 9, 1 << 9))
    assert fold([large], evaluate)[0].op == "expand"
    symbolic = apply("expand", constant(np.zeros((1,))), shape=(T,))
    assert fold([symbolic], evaluate)[0].op == "expand"


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.fused])
def test_lowering_leaves_core_ops_where_nothing_else_is_supported(op):
    for case in cases(op):
        lowered = lower([case.node], lambda n: not OPS[n.op].fused, "b", evaluate)
        assert not any(OPS[name].fused for name in ops(lowered))


@pytest.mark.parametrize("op", sorted(CASES))
def test_every_case_lowers_plans_and_runs_on_the_null_backend(op):
    backend = open_backend("null")
    for case in cases(op):
        program = backend.compile(
            [case.node], backend.load({n: Stored(v.shape) for n, v in case.weights.items()}), BOUNDS
        )
        (result,) = program.run(case.inputs)
        assert not result.any()
        assert program.memory.arena >= 0


def test_null_refuses_a_weight_that_was_not_loaded():
    backend = open_backend("null")
    with pytest.raises(BackendError, match=r"weight 'w' of shape \(4,\) was not loaded"):
        backend.compile([weight("w", (4,), dtypes.F32) + 1.0], backend.load({}), BOUNDS)


def test_an_unknown_backend_is_an_error_that_lists_the_known():
    with pytest.raises(
        BackendError, match="backend 'abacus' is unknown; known: cpu, ggml, mlx, null, numpy, onnx, torch"
    ):
        open_backend("abacus")


def test_values_that_live_one_after_another_share_memory():
    planned = plan([Life("a", 100, 0, 1), Life("b", 100, 2, 3), Life("c", 50, 1, 2)])
    assert planned.offsets["a"] == planned.offsets["b"] == 0
    assert planned.offsets["c"] == 128
    assert planned.size == 192


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 10)), max_size=30))
def test_values_that_live_at_once_never_overlap(numbers):
    lives = [Life(i, size, first, first + length) for i, (size, first, length) in enumerate(numbers)]
    planned = plan(lives)
    for a in lives:
        start = planned.offsets[a.value]
        assert start % ALIGNMENT == 0
        assert start + a.size <= planned.size
        for b in lives:
            if a.value < b.value and a.first <= b.last and b.first <= a.last:
                other = planned.offsets[b.value]
                assert start + a.size <= other or other + b.size <= start
