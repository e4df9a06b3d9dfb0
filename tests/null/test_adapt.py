"""Low-rank changes in a graph: where they go, and what is refused."""

import pytest

from puna.dtypes import F16, F32, I32
from puna.errors import GraphError
from puna.graph import T, input_, topological, weight
from puna.graph.adapt import LowRank, adapt
from puna.graph.ops import apply

LOW = LowRank(weight("a", (4, 32), F32), weight("b", (8, 4), F16), 0.5)


def ops(node):
    return [n.op for n in topological([node]) if n.inputs]


def test_a_product_gets_the_sum_of_its_changes_and_keeps_its_bias():
    x, w, bias = input_("x", (T, 32), F32), weight("w", (8, 32), F16), weight("bias", (8,), F32)
    (out,) = adapt([apply("linear", x, w, bias)], {("linear", "w"): [LOW, LOW]})
    assert ops(out) == ["linear", "linear", "mul", "linear", "add", "linear", "mul", "linear", "add"]
    assert out.shape == (T, 8)
    assert out.inputs[0].inputs[0].inputs[2] is bias


def test_a_lookup_looks_its_change_up_and_a_product_with_the_same_weight_stays():
    ids, w = input_("ids", (T,), I32), weight("w", (8, 32), F16)
    low = LowRank(weight("a", (8, 4), F32), weight("b", (32, 4), F32), 2.0)
    looked_up = apply("embedding", ids, w)
    (out,) = adapt([apply("linear", looked_up, w, None)], {("embedding", "w"): [low]})
    assert ops(out) == ["embedding", "embedding", "mul", "linear", "add", "linear"]


def test_each_expert_has_its_own_change():
    x, ids = input_("x", (T, 32), F32), input_("ids", (T, 2), I32)
    low = LowRank(weight("a", (3, 4, 32), F32), weight("b", (3, 8, 4), F32), 2.0)
    node = apply("experts", x, weight("w", (3, 8, 32), F16), ids, weight("bias", (3, 8), F32))
    (out,) = adapt([node], {("experts", "w"): [low]})
    assert ops(out) == ["experts", "experts", "mul", "experts", "add"]
    assert [n.inputs[3] is None for n in topological([out]) if n.op == "experts"] == [False, True, True]
    assert out.shape == (T, 2, 8)


def test_a_change_that_nothing_reads_is_an_error():
    x, w = input_("x", (T, 32), F32), weight("w", (8, 32), F16)
    with pytest.raises(GraphError, match="no linear reads 'v'"):
        adapt([apply("linear", x, w, None)], {("linear", "v"): [LOW], ("linear", "w"): [LOW]})


def test_a_change_that_does_not_fit_is_an_error():
    x, w = input_("x", (T, 16), F32), weight("w", (8, 16), F16)
    with pytest.raises(GraphError, match="'a' does not fit"):
        adapt([apply("linear", x, w, None)], {("linear", "w"): [LOW]})
