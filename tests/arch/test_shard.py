"""A model split over processes computes what it computes in one."""

from collections import Counter

import pytest

import arch.run
from arch.lockstep import Lockstep
from arch.run import run
from arch.test_forward import EVERY, close, text
from puna import dtypes
from puna.errors import GraphError
from puna.graph import T, input_, weight
from puna.graph.lower import decompose
from puna.graph.ops import apply
from puna.graph.shard import Part, shard
from puna.graph.tensor import topological


@pytest.fixture
def together(monkeypatch):
    """Run a case split over so many processes: its outputs, and the graphs that were run."""

    def runs(opened, count, sequences):
        backend = Lockstep(count)
        with monkeypatch.context() as patch:
            patch.setattr(arch.run, "backend_of", lambda name: backend)
            return run(opened, "lockstep", sequences), backend.programs

    return runs


@pytest.mark.parametrize("case", EVERY)
def test_two_processes_compute_what_one_does(case, opened, together):
    sequences = [(text(9), list(range(9))), (text(5, 3), [4, 0])]
    split, programs = together(opened(case), 2, sequences)
    assert close(split, run(opened(case), "numpy", sequences))
    assert sum(node.op == "all_reduce" for program in programs for node in program.orders[0]) >= 2


@pytest.mark.parametrize("case", ["llama2", "mixtral", "qwen35"])
def test_four_processes_compute_what_one_does(case, opened, together):
    sequences = [(text(6), [5])]
    split, _ = together(opened(case), 4, sequences)
    assert close(split, run(opened(case), "numpy", sequences))


def test_a_llama_is_summed_twice_a_block_and_its_cache_is_split(opened, together):
    _, (program,) = together(opened("llama2"), 2, [(text(3), [2])])
    nodes = program.orders[1]
    blocks = 2
    assert Counter(node.op for node in nodes)["all_reduce"] == 2 * blocks
    whole = [node for node in nodes if node.op == "linear" and "[" not in node.inputs[1].name]
    assert [node.inputs[1].name for node in whole] == ["output.weight"]
    shapes = {tuple(node.shape)[1] for node in nodes if node.op == "state"}
    assert shapes == {int(opened("llama2").metadata["llama.attention.head_count_kv"]) // 2}


def products(*, columns: int = 64, dtype: str = "F32", between: str = "silu"):
    """Two matrices with something between them, behind a norm."""
    x = input_("x", (T, 64), dtypes.F32)
    hidden = apply("linear", x, weight("up", (columns, 64), dtypes.F32), weight("up.bias", (columns,), dtypes.F32))
    return apply("linear", apply(between, hidden), weight("down", (64, columns), dtypes.DTYPES[dtype]), None)


def names(outputs):
    return sorted(node.name for node in topological(outputs) if node.op == "weight")


def test_the_first_matrix_is_split_by_rows_and_the_second_by_columns():
    made, parts = shard([products()], 1, 2)
    assert names(made) == ["down[1: 32 to 64]", "up.bias[0: 32 to 64]", "up[0: 32 to 64]"]
    assert parts["down[1: 32 to 64]"] == Part("down", 1, 32, 64)
    assert made[0].op == "all_reduce"


@pytest.mark.parametrize(
    "given",
    [{"columns": 63}, {"columns": 64, "dtype": "Q8_0", "count": 4}, {"between": "softmax"}],
    ids=["an odd number of rows", "parts of a block", "what needs whole rows"],
)
def test_what_cannot_be_split_stays_whole(given):
    count = given.pop("count", 2) if "count" in given else 2
    node = products(**{key: value for key, value in given.items() if key != "count"})
    made, parts = shard([node], 0, count)
    assert (names(made), parts) == (["down", "up", "up.bias"], {})


def test_matrices_in_one_become_several():
    both = apply("linear", input_("x", (T, 64), dtypes.F32), weight("both", (96, 64), dtypes.F32), None)
    gated = apply("silu_mul", both.slice(1, 0, 48), both.slice(1, 48, 96))
    made, parts = shard([apply("linear", gated, weight("down", (8, 48), dtypes.F32), None)], 1, 2)
    assert names(made) == ["both[0: 0 to 48][0: 24 to 48]", "both[0: 48 to 96][0: 24 to 48]", "down[1: 24 to 48]"]
    assert parts["both[0: 48 to 96][0: 24 to 48]"] == Part("both[0: 48 to 96]", 0, 24, 48)
    assert parts["both[0: 48 to 96]"] == Part("both", 0, 48, 96)


def test_a_sum_of_several_processes_has_no_meaning_in_one():
    node = apply("all_reduce", input_("x", (T, 4), dtypes.F32), count=2)
    with pytest.raises(GraphError, match="all_reduce: 2 processes, and a backend that speaks to none of them"):
        decompose([node], lambda node: False, "alone")
