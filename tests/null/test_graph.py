"""Tensors and the op table: shape rules, dtypes, errors."""

import numpy as np
import pytest

from puna import dtypes
from puna.errors import GraphError
from puna.graph import O, T, Tensor, constant, input_, state, topological, weight
from puna.graph.fused import sigmoid
from puna.graph.ops import OPS, Op, apply, define


def x(*shape, dtype=dtypes.F32, name="x"):
    return input_(name, shape, dtype)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: x(T, 4) + x(T, 4), (T, 4)),
        (lambda: x(T, 4) * x(4), (T, 4)),
        (lambda: x(T, 1) - x(1, 4), (T, 4)),
        (lambda: 2.0 / x(T, 4), (T, 4)),
        (lambda: x(T, 12).reshape(T, 3, 4), (T, 3, 4)),
        (lambda: x(T, 3, 4).permute(1, 0, 2), (3, T, 4)),
        (lambda: x(T, 12).slice(-1, 2, 5), (T, 3)),
        (lambda: x(T, 12).sum(-1), (T, 1)),
        (lambda: x(T, 12).max(0), (1, 12)),
        (lambda: apply("concat", x(T, 3), x(T, 5), axis=1), (T, 8)),
        (lambda: apply("take", x(T, 3), x(O, dtype=dtypes.I32)), (O, 3)),
        (lambda: apply("matmul", x(2, T, 3), x(2, 3, 5)), (2, T, 5)),
        (lambda: apply("iota", size=T), (T,)),
        (lambda: apply("expand", x(T, 1, 4), shape=(T, 3, 4)), (T, 3, 4)),
        (lambda: apply("linear", x(T, 32), weight("w", (7, 32), dtypes.Q4_0), None), (T, 7)),
        (lambda: apply("embedding", x(T, dtype=dtypes.I32), weight("w", (7, 32), dtypes.Q4_0)), (T, 32)),
        (lambda: apply("write", state("s", (9, 2), dtypes.F16), x(T, dtype=dtypes.I32), x(T, 2)), (9, 2)),
    ],
)
def test_shapes_follow_the_rule(make, shape):
    assert make().shape == shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: x(T, 4) + x(O, 4), "add: shapes do not broadcast"),
        (lambda: x(T, 4) + x(T, 4, dtype=dtypes.I32), "add: dtypes differ"),
        (lambda: apply("exp", x(T, dtype=dtypes.I32)), "exp: dtype is not allowed"),
        (lambda: x(T, 12).reshape(T, 3, 5), r"reshape: does not fit \(T, 3, 5\)"),
        (lambda: x(T, 12).reshape(O, 12), "reshape: does not fit"),
        (lambda: x(T, 12).permute(0, 0), "permute: axes"),
        (lambda: x(T, 12).slice(0, 0, 1), "slice: the axis is symbolic"),
        (lambda: x(T, 12).slice(1, 4, 13), "slice: 4:13 is outside"),
        (lambda: apply("concat", x(T, 3), x(O, 3), axis=1), "concat: other axes"),
        (lambda: apply("matmul", x(T, 3), x(4, 5)), "matmul: inner sizes differ"),
        (lambda: apply("linear", x(T, 31), weight("w", (7, 32), dtypes.F32), None), "linear: 'w' does not fit"),
        (lambda: apply("write", x(9, 2), x(T, dtype=dtypes.I32), x(T, 2)), "write: needs a state"),
        (lambda: apply("input"), "a leaf is made by"),
        (lambda: apply("blend", x(T)), "op 'blend' is unknown"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(make, message):
    with pytest.raises(GraphError, match=message):
        make()


def test_comparisons_give_bools_and_casts_the_dtype_asked_for():
    assert apply("less", x(T), x(T)).dtype is dtypes.BOOL
    assert x(T).cast(dtypes.I32).dtype is dtypes.I32
    node = x(T)
    assert node.cast(dtypes.F32) is node


def test_constants_become_float32_int32_or_bool_and_cannot_be_changed():
    assert [constant(v).dtype for v in (np.arange(2), np.ones(2), np.array([True]))] == [
        dtypes.I32,
        dtypes.F32,
        dtypes.BOOL,
    ]
    with pytest.raises(ValueError, match="read-only"):
        constant(np.ones(2)).attrs["value"][0] = 1


def test_order_puts_inputs_first_and_leaves_out_what_nobody_needs():
    a = x(T, 4)
    b = a + 1.0
    _ = b * 3.0
    c = sigmoid(b)
    order = topological([c])
    assert order[-1] is c
    assert len(order) == len(set(order))
    assert all(order.index(s) < order.index(n) for n in order for s in n.sources)
    assert "mul" not in [n.op for n in order]


def test_an_op_is_defined_once():
    with pytest.raises(GraphError, match="'add' is defined twice"):
        define(Op("add", "again", lambda inputs, attrs: ((), dtypes.F32)))


def test_every_decomposition_keeps_shape_and_dtype():
    node = apply("silu", x(T, 4))
    meaning = OPS["silu"].decompose(node)
    assert isinstance(meaning, Tensor)
    assert (meaning.shape, meaning.dtype) == (node.shape, node.dtype)
