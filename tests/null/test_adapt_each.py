"""Low-rank changes that each token chooses: where they go in a graph, and what is refused."""

import numpy as np
import pytest

from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.dtypes import F32, I32
from puna.errors import GraphError
from puna.graph import O, S, T, input_, topological, weight
from puna.graph.adapt_each import Stack, adapt_each
from puna.graph.ops import apply

WANTED = input_("outputs", (O,), I32)
STACK = Stack(weight("a", (2, 4, 32), F32), weight("b", (2, 8, 4), F32), (-1, 0, -1, 1))


class Values:
    dtype = F32

    def __init__(self, *shape, seed):
        self.shape = shape
        self.values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

    def numpy(self):
        return self.values


def ops(node):
    return [n.op for n in topological([node]) if n.inputs]


def run(node, weights, **inputs):
    backend = open_backend("numpy")
    return backend.compile([node], backend.load(weights), Bounds(T=16, O=16, S=4)).run(inputs)[0]


def test_rows_that_are_wanted_have_the_choices_of_their_tokens():
    x, w = input_("x", (T, 32), F32), weight("w", (8, 32), F32)
    node = apply("linear", apply("take", x, WANTED), w, None)
    (out,) = adapt_each([node], {("linear", "w"): STACK}, 2, WANTED)
    assert out.shape == (O, 8)
    shapes = {"w": (8, 32), "a": (2, 4, 32), "b": (2, 8, 4)}
    weights = {name: Values(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    rng = np.random.default_rng(9)
    values, rows = rng.standard_normal((4, 32)).astype(np.float32), np.array([3, 0, 1], np.int32)
    numbers = np.array([[1, 0, 3, 2], [3, 0, 0, 0]], np.int32)
    scales = np.array([[0.5, 9.0, 1.0, 9.0], [2.0, 9.0, 9.0, 9.0]], np.float32)
    inputs = {"x": values, "outputs": rows}
    inputs |= {f"adapter.{j}": numbers[j] for j in range(2)} | {f"adapter.{j}.scale": scales[j] for j in range(2)}
    got = run(out, weights, **inputs)
    (w, a, b), want = (weights[name].values for name in "wab"), values[rows] @ weights["w"].values.T
    want[1] += 0.5 * (b[0] @ (a[0] @ values[0])) + 2.0 * (b[1] @ (a[1] @ values[0]))  # number 2 changes nothing here
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_an_expert_of_an_adapter_is_the_one_that_the_row_chose():
    x, ids, w = input_("x", (T, 32), F32), input_("ids", (T, 2), I32), weight("w", (3, 8, 32), F32)
    stack = Stack(weight("a", (6, 4, 32), F32), weight("b", (6, 8, 4), F32), (-1, 1, 0))
    (out,) = adapt_each([apply("experts", x, w, ids, None)], {("experts", "w"): stack}, 1, WANTED)
    assert out.shape == (T, 2, 8)
    shapes = {"w": (3, 8, 32), "a": (6, 4, 32), "b": (6, 8, 4)}
    weights = {name: Values(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    values, chosen = Values(3, 32, seed=9).values, np.array([[2, 0], [1, 1], [0, 2]], np.int32)
    number, scale = np.array([1, 0, 2], np.int32), np.array([1.5, 9.0, 1.0], np.float32)
    got = run(out, weights, x=values, ids=chosen, **{"adapter.0": number, "adapter.0.scale": scale})
    first = {1: 3, 2: 0}
    for t in range(3):
        for j, expert in enumerate(chosen[t]):
            want = weights["w"].values[expert] @ values[t]
            if number[t]:
                each = first[int(number[t])] + expert
                want = want + scale[t] * (weights["b"].values[each] @ (weights["a"].values[each] @ values[t]))
            np.testing.assert_allclose(got[t, j], want, rtol=1e-4, atol=1e-4)


def test_a_lookup_looks_up_the_rows_of_its_adapter():
    ids, w = input_("ids", (T,), I32), weight("w", (8, 32), F32)
    stack = Stack(weight("a", (16, 4), F32), weight("b", (2, 32, 4), F32), (-1, 1, 0))
    (out,) = adapt_each([apply("embedding", ids, w)], {("embedding", "w"): stack}, 1, WANTED)
    shapes = {"w": (8, 32), "a": (16, 4), "b": (2, 32, 4)}
    weights = {name: Values(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    inputs = {"ids": [7, 3, 2], "adapter.0": [1, 0, 2], "adapter.0.scale": [2.0, 9.0, 1.0]}
    got = run(out, weights, **{name: np.array(values) for name, values in inputs.items()})
    a, b, want = weights["a"].values, weights["b"].values, weights["w"].values[[7, 3, 2]]
    want[0] += 2.0 * (b[1] @ a[8 + 7])
    want[2] += b[0] @ a[2]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_each_tokens_own_is_an_error():
    x, w = input_("x", (S, 32), F32), weight("w", (8, 32), F32)
    with pytest.raises(GraphError, match="rows of 'w' are no tokens"):
        adapt_each([apply("linear", x, w, None)], {("linear", "w"): STACK}, 1, WANTED)
    with pytest.raises(GraphError, match="no linear reads 'v'"):
        adapt_each([apply("linear", x, w, None)], {("linear", "v"): STACK}, 1, WANTED)
