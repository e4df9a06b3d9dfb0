from types import SimpleNamespace

import pytest

from puna.bench.work import Work, cost, works
from puna.cache import Spec
from puna.dtypes import BF16, F32, Q8_0

TENSORS = {
    "token_embd.weight": SimpleNamespace(shape=(100, 64), dtype=Q8_0),
    "blk.0.attn_norm.weight": SimpleNamespace(shape=(64,), dtype=F32),
    "blk.0.ffn_up.weight": SimpleNamespace(shape=(128, 64), dtype=Q8_0),
    "blk.0.ffn_gate_exps.weight": SimpleNamespace(shape=(4, 32, 64), dtype=BF16),
}
SPECS = [Spec(2, 32, 32), Spec(2, 32, 32, window=8)]


def test_every_number_asked_for_is_a_piece_of_work() -> None:
    found = works((512,), (128,), (8,), (8192,), ("f16", "q8_0"))
    assert [(w.name, w.kv_type) for w in found[:4]] == [
        ("prefill 512", "f16"),
        ("decode 128", "f16"),
        ("decode 8 at once", "f16"),
        ("decode at 8192", "f16"),
    ]
    assert [w.counted for w in found[:4]] == [512, 128, 8 * 16, 16]
    assert [w.positions for w in found[:4]] == [512, 144, 80, 8192]
    assert [w.kv_type for w in found[4:]] == ["q8_0"] * 4


def test_a_tied_embedding_is_read_once_and_half_the_experts_half() -> None:
    found = cost(TENSORS, SPECS, heads=4, experts=0.5)
    assert found.body == (128 * 64 + 2 * 32 * 64, 128 * 64 // 32 * 34 + 2 * 32 * 64 * 2)
    assert found.head == (6400, 6400 // 32 * 34)
    assert found.kind == "int8"


def test_an_output_of_its_own_is_read_in_place_of_the_embedding() -> None:
    own = {**TENSORS, "output.weight": SimpleNamespace(shape=(100, 64), dtype=F32)}
    assert cost(own, SPECS, heads=4).head == (6400, 6400 * 4)


def test_a_decode_reads_weights_once_and_of_each_sequence_what_its_windows_show() -> None:
    found = cost(TENSORS, SPECS, heads=4)
    work = Work("", 1, start=20, sequences=3, steps=4)
    numbers = 2 * (32 + 32)
    assert found.read(work, 2) == found.body[1] + found.head[1] + 3 * (22 * numbers + 8 * numbers) * 2


def test_a_prefill_multiplies_with_every_weight_and_attends_to_what_came_before() -> None:
    found = cost(TENSORS, SPECS, heads=4)
    before = 16 * 16 / 2 + (16 * 8 - 8 * 8 / 2)
    assert found.operations(Work("", 16)) == 2 * (16 * found.body[0] + 6400) + 4 * before * 4 * 32


@pytest.mark.parametrize(("dtype", "kind"), [(F32, "f32"), (BF16, "bf16"), (Q8_0, "int8")])
def test_the_peak_that_counts_is_the_one_of_most_weights(dtype: object, kind: str) -> None:
    assert cost({"blk.0.ffn_up.weight": SimpleNamespace(shape=(64, 64), dtype=dtype)}, [], 1).kind == kind
