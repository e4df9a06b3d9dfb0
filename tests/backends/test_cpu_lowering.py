"""What graphs become on the cpu backend: fused steps, in place where nobody looks, and few barriers."""

import numpy as np
import pytest

from puna import dtypes, quants
from puna.backends.base import Bounds
from puna.backends.cpu import open_backend
from puna.graph import O, S, T, constant, input_, state, weight
from puna.graph.ops import apply

BOUNDS = Bounds(T=64, O=4, S=4)


class Values:
    def __init__(self, values, dtype="F32"):
        self.shape, self.dtype = values.shape, dtypes.DTYPES[dtype]
        self.raw = np.ascontiguousarray(quants.quantize(values, dtype)).reshape(-1).view(np.uint8)

    def numpy(self):
        return quants.dequantize(self.raw, self.dtype.name, self.shape)


class Graph:
    """Leaves by name, with random weights."""

    def __init__(self, threads=2):
        self.backend = open_backend(threads)
        self.rng = np.random.default_rng(3)
        self.stored = {}

    def weight(self, *shape, dtype="F32"):
        name = f"w{len(self.stored)}"
        self.stored[name] = Values(self.rng.standard_normal(shape).astype(np.float32), dtype)
        return weight(name, shape, dtypes.DTYPES[dtype])

    def linear(self, x, n, k, dtype="Q8_0", bias=None):
        return apply("linear", x, self.weight(n, k, dtype=dtype), bias)

    def compile(self, *outputs):
        return self.backend.compile(outputs, self.backend.load(self.stored), BOUNDS)


def rows(n=32):
    return input_("x", (T, n), dtypes.F32)


def labels(program):
    return [step.label for step in program.steps]


def norm(graph, x, n=32):
    return apply("rms_norm", x, graph.weight(n), eps=1e-5)


def test_a_norm_is_quantized_as_it_is_made_and_shared_by_all_products():
    graph = Graph()
    h = norm(graph, rows())
    program = graph.compile(*(graph.linear(h, 16, 32) for _ in range(3)))
    assert [step.kernel for step in program.steps] == ["act", "linear", "linear", "linear"]
    assert labels(program)[0] == "act of rms_norm"


def test_a_norm_that_somebody_else_reads_is_made_by_itself():
    graph = Graph()
    h = norm(graph, rows())
    program = graph.compile(graph.linear(h, 32, 32), h * 2.0)
    assert [step.kernel for step in program.steps] == ["row", "act", "linear", "mul"]


def test_products_that_read_different_kinds_of_activations_share_the_norm():
    graph = Graph()
    h = norm(graph, rows())
    program = graph.compile(graph.linear(h, 16, 32, "Q8_0"), graph.linear(h, 16, 32, "F32"))
    assert sorted(step.kernel for step in program.steps) == ["act", "act", "linear", "linear", "row"]


@pytest.mark.parametrize("op", ["silu_mul", "gelu_mul"])
def test_a_gated_activation_is_quantized_as_it_is_made(op):
    graph = Graph()
    attrs = {"approximate": True} if op == "gelu_mul" else {}
    gate, up = (graph.linear(rows(), 64, 32) for _ in range(2))
    program = graph.compile(graph.linear(apply(op, gate, up, **attrs), 32, 64))
    assert labels(program)[3] == f"act of {op}"
    assert [step.kernel for step in program.steps] == ["act", "linear", "linear", "act", "linear"]


def test_a_product_adds_to_a_residual_that_nobody_reads_later():
    graph = Graph()
    x = rows() * 2.0
    program = graph.compile(x + graph.linear(norm(graph, x), 32, 32))
    assert [step.kernel for step in program.steps] == ["mul", "act", "linear"]


def test_a_product_does_not_overwrite_a_residual_that_is_read_later():
    graph = Graph()
    x = rows() * 2.0
    total = x + graph.linear(norm(graph, x), 32, 32)
    values = np.ones((3, 32), np.float32)
    program = graph.compile(total, total * x)
    first, second = program.run({"x": values})
    np.testing.assert_allclose(second, first * 2, rtol=1e-6)


def test_a_product_does_not_overwrite_an_input_or_an_output():
    graph = Graph()
    x = rows()
    kept = x * 2.0
    program = graph.compile(kept, kept + graph.linear(x, 32, 32), x + graph.linear(x, 32, 32))
    values = np.ones((3, 32), np.float32)
    first, *_ = program.run({"x": values})
    np.testing.assert_array_equal(first, values * 2)
    np.testing.assert_array_equal(values, 1)


def test_a_rope_is_done_on_the_way_into_a_state():
    graph = Graph()
    positions, slots = (input_(name, (T,), dtypes.I32) for name in ("positions", "slots"))
    x, frequencies = input_("k", (T, 2, 8), dtypes.F32), constant(np.ones(4))
    turned = apply("rope", x, positions, frequencies, style="pairs", scale=1.0)
    program = graph.compile(apply("write", state("k", (9, 2, 8), dtypes.F32), slots, turned))
    assert [step.kernel for step in program.steps] == ["rope_table", "write", "copy"]


def test_a_row_that_is_not_finite_stays_so_in_a_state_of_q8_0_and_alone():
    graph = Graph()
    slots, x = input_("slots", (T,), dtypes.I32), input_("x", (T, 1, 64), dtypes.F32)
    program = graph.compile(apply("write", state("k", (4, 1, 64), dtypes.Q8_0), slots, x))
    values = np.ones((3, 1, 64), np.float32)
    values[0, 0, 5], values[1, 0, 40], values[2] = np.nan, -np.inf, 1e-38
    (kept,) = program.run({"slots": np.arange(3, dtype=np.int32), "x": values})
    assert np.isnan(kept[0, 0, :32]).all()
    assert np.isnan(kept[1, 0, 32:]).all()
    np.testing.assert_allclose(kept[[0, 1], 0, [32, 0]], 1, rtol=1e-3)
    np.testing.assert_array_equal(kept[2:], 0)


def llama_block(graph, x, leaves, name):
    h = norm(graph, x, 64)
    q, k, v = (graph.linear(h, n * 16, 64, "Q4_0").reshape(T, n, 16) for n in (4, 2, 2))
    frequencies = constant(np.ones(8))
    turn = lambda t: apply("rope", t, leaves["positions"], frequencies, style="pairs", scale=1.0)  # noqa: E731
    keys, values = (
        apply("write", state(name + part, (32, 2, 16), dtypes.F16), leaves["slots"], t)
        for part, t in (("k", turn(k)), ("v", v))
    )
    read = [leaves[n] for n in ("positions", "sequence", "table", "lengths")]
    attrs = {"scale": 0.25, "causal": True, "window": 0, "softcap": 0.0, "block_size": 8}
    a = apply("attention", turn(q), keys, values, *read, None, **attrs).reshape(T, 64)
    x = x + graph.linear(a, 64, 64, "Q4_0")
    h = norm(graph, x, 64)
    return x + graph.linear(apply("silu_mul", *(graph.linear(h, 96, 64, "Q4_0") for _ in range(2))), 64, 96, "Q4_0")


def llama(graph, blocks):
    per_token = {name: input_(name, (T,), dtypes.I32) for name in ("tokens", "positions", "slots", "sequence")}
    table = {"table": input_("table", (S, 4), dtypes.I32), "lengths": input_("lengths", (S,), dtypes.I32)}
    leaves = per_token | table | {"outputs": input_("outputs", (O,), dtypes.I32)}
    embedding = graph.weight(100, 64, dtype="Q8_0")
    x = apply("embedding", leaves["tokens"], embedding)
    for i in range(blocks):
        x = llama_block(graph, x, leaves, f"{i}.")
    return apply("linear", norm(graph, apply("take", x, leaves["outputs"]), 64), embedding, None)


def test_a_block_takes_six_barriers_for_few_tokens():
    few = [len(graph.compile(llama(graph, n)).schedules[0].phases) for graph, n in ((Graph(), 1), (Graph(), 4))]
    assert few[1] - few[0] == 3 * 6


def test_products_of_one_input_run_without_a_barrier_between_them():
    graph = Graph()
    program = graph.compile(llama(graph, 1))
    together = [[program.steps[i].label for i in p.shared] for p in program.schedules[0].phases]
    assert [len(names) for names in together] == [1, 3, 2, 1, 1, 2, 1, 1]


def test_a_tied_embedding_exists_once():
    graph = Graph()
    program = graph.compile(llama(graph, 1))
    read = [s.operands[2].storage for s in program.steps if s.kernel in ("embedding", "linear")]
    assert read[0] is read[-1]


def test_more_blocks_take_no_more_memory_for_values():
    two, five = (g.compile(llama(g, n)).schedules[1].arena.size for g, n in ((Graph(), 2), (Graph(), 5)))
    assert five == two
