"""Types for a size: budgets kept, the best choice found, and less error than the mixes of the same size."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.dtypes import BF16, DTYPES, F32
from puna.errors import ConversionError
from puna.quants import dequantize, quantize
from puna.quants.budget import Option, choose, measure, plan_for_size, relative_error, weighed
from puna.quants.recipe import is_kept, plan_types

Array = np.ndarray[Any, Any]
FAST = ("Q2_K", "Q3_K", "Q4_0", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0")


def stored(values: Array, dtype: Any = F32) -> Any:
    raw = values.reshape(-1).view(np.uint8) if dtype is F32 else quantize(values, dtype.name).reshape(-1)
    return SimpleNamespace(shape=values.shape, dtype=dtype, raw=raw, numpy=lambda: values)


def model(blocks: int = 8, seed: int = 0) -> dict[str, Any]:
    """Random matrices of different spread: a few large values in some, as in real models."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, tail: float) -> Any:
        return stored((rng.standard_normal((rows, columns)) * rng.gamma(1 / tail, tail, columns)).astype(np.float32))

    tensors = {"token_embd.weight": matrix(512, 256, 0.1), "output.weight": matrix(512, 256, 0.1)}
    for i in range(blocks):
        tensors[f"blk.{i}.attn_norm.weight"] = stored(np.ones(256, np.float32))
        for part, rows, columns in (
            ("attn_q", 256, 256),
            ("attn_v", 64, 256),
            ("ffn_up", 512, 256),
            ("ffn_down", 256, 512),
        ):
            tensors[f"blk.{i}.{part}.weight"] = matrix(rows, columns, 0.1 + i / 4)
    return tensors


def size(tensors: dict[str, Any], types: dict[str, str]) -> int:
    """Bytes of a file's tensor data: each padded to 32."""
    return sum(-(-DTYPES[types[name]].nbytes(t.shape) // 32) * 32 for name, t in tensors.items())


def error(tensors: dict[str, Any], types: dict[str, str], importance: dict[str, Array] | None = None) -> float:
    """The sum that is to be least, of all rows, written out again."""
    total = 0.0
    for name, t in tensors.items():
        if types[name] != "F32":
            values, weights = t.numpy(), (importance or {}).get(name)
            got = dequantize(quantize(values, types[name], weights), types[name], values.shape)
            w = 1 if weights is None else weights.astype(np.float64)
            part = (w * (got - values).astype(np.float64) ** 2).sum() / (w * values.astype(np.float64) ** 2).sum()
            total += part * (16 if name == "output.weight" else 1)
    return float(total)


@pytest.mark.parametrize("bpw", [3.0, 4.5, 5.2, 7.0])
def test_the_plan_is_within_the_budget_and_close_to_it(bpw: float) -> None:
    tensors = model()
    types = plan_for_size(tensors, bpw=bpw, candidates=FAST, threads=2)
    budget = bpw / 8 * sum(t.numpy().size for t in tensors.values())
    assert 0.98 * budget < size(tensors, types) <= budget
    assert {types[name] for name in tensors if "norm" in name} == {"F32"}


@pytest.mark.parametrize("mix", ["Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M"])
def test_the_plan_has_less_error_than_the_mix_of_that_size(mix: str) -> None:
    tensors = model()
    metadata = {"llama.block_count": 8, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 1}
    named = plan_types({n: (t.shape, "F32") for n, t in tensors.items()}, mix, arch="llama", metadata=metadata)
    types = plan_for_size(tensors, nbytes=size(tensors, named), arch="llama", candidates=FAST, threads=2)
    assert size(tensors, types) <= size(tensors, named)
    assert error(tensors, types) < 0.95 * error(tensors, named)


def test_importance_weighs_the_error_and_admits_types_that_need_it() -> None:
    tensors = {name: t for name, t in model(blocks=2).items() if "norm" not in name}
    rng = np.random.default_rng(1)
    known = {name: rng.gamma(0.3, 1, t.shape[-1]).astype(np.float32) for name, t in tensors.items() if "blk" in name}
    imatrix: Any = SimpleNamespace(importance=lambda name, shape: known.get(name))
    kinds = ("IQ2_XS", "Q2_K", "Q4_K")
    with_it = plan_for_size(tensors, bpw=2.9, imatrix=imatrix, candidates=kinds)
    assert "IQ2_XS" in {kind for name, kind in with_it.items() if name in known}
    assert {with_it[name] for name in tensors if name not in known} <= {"Q2_K", "Q4_K"}
    assert "IQ2_XS" not in plan_for_size(tensors, bpw=2.9, candidates=kinds).values()


def test_experts_are_weighed_by_their_own_importance() -> None:
    rng = np.random.default_rng(2)
    values = rng.standard_normal((2, 128, 256)).astype(np.float32)
    importance = rng.gamma(0.3, 1, (2, 256)).astype(np.float32)
    matrix: Any = SimpleNamespace(importance=lambda name, shape: importance)
    (options,) = measure({"w": stored(values)}, matrix, ["Q4_0"]).values()
    parts = [(values[i], importance[i]) for i in range(2)]
    wrong = [(w * (dequantize(quantize(v, "Q4_0", w), "Q4_0", v.shape) - v) ** 2).sum() for v, w in parts]
    power = [(w * v * v).sum() for v, w in parts]
    assert options[1].error == pytest.approx(sum(wrong) / sum(power), rel=0.02)


def test_a_part_of_the_rows_tells_the_error_of_all() -> None:
    values = np.random.default_rng(3).standard_normal((4096, 256)).astype(np.float32)
    (options,) = measure({"w": stored(values)}, candidates=("Q4_0", "Q6_K")).values()
    assert [o.type for o in options] == ["F32", "Q4_0", "Q6_K"]
    for option in options[1:]:
        assert option.error == pytest.approx(relative_error(values, option.type), rel=0.03)
        assert option.nbytes == DTYPES[option.type].nbytes(values.shape)


def test_a_tensor_may_stay_as_it_is_and_does_not_grow() -> None:
    tensors = {"blk.0.ffn_up.weight": stored(model(1)["blk.0.ffn_up.weight"].numpy(), BF16)}
    assert list(plan_for_size(tensors, bpw=16).values()) == ["BF16"]
    small = {"blk.0.ffn_up.weight": stored(model(1)["blk.0.ffn_up.weight"].numpy(), DTYPES["Q4_0"])}
    assert list(plan_for_size(small, bpw=8.5, candidates=("Q8_0", "Q2_K")).values()) == ["Q4_0"]


def test_types_that_do_not_fit_the_rows_are_not_tried() -> None:
    values = np.random.default_rng(4).standard_normal((64, 96)).astype(np.float32)
    (options,) = measure({"w": stored(values)}).values()
    assert {o.type for o in options} == {"F32", "F16", "IQ4_NL", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"}


def test_progress_is_told_in_bytes_of_the_source() -> None:
    seen: list[tuple[str, int, int]] = []
    tensors = {name: t for name, t in model(1).items() if not is_kept(name, t.shape)}
    measure(tensors, candidates=["Q8_0"], on_progress=lambda *call: seen.append(call))
    total = 4 * sum(t.numpy().size for t in tensors.values())
    assert seen[-1][1:] == (total, total)
    assert [name for name, _, _ in seen] == list(tensors)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            {"bpw": 1.0},
            r"the target of 1 bit per weight is too small: with the smallest types it is 2\.\d\d bits per w",
        ),
        (
            {"nbytes": 9},
            r"the target of 9 bytes is too small: .* a file of [\d,]+ bytes \(2\.\d\d bits per weight without",
        ),
        ({"bpw": float("nan")}, "a target of nan bits per weight; more than 0 and at most 32"),
        ({"nbytes": 0}, "a target of 0 bytes; a size such as 700M or 4G would work"),
        ({}, "a target is either a size or bits per weight"),
        ({"bpw": 4, "nbytes": 4}, "a target is either a size or bits per weight"),
        ({"bpw": 4, "candidates": ["Q9"]}, "type 'Q9' cannot be written"),
    ],
)
def test_what_cannot_be_planned_is_said(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConversionError, match=problem):
        plan_for_size(model(1), **{"candidates": FAST, **arguments})


def test_a_weight_that_is_not_finite_is_named() -> None:
    values = np.ones((64, 256), np.float32)
    values[0, 3] = np.nan
    with pytest.raises(ConversionError, match=r"measuring 'blk.0.ffn_up.weight': .*not finite"):
        plan_for_size({"blk.0.ffn_up.weight": stored(values)}, bpw=5)


def test_the_output_counts_as_much_as_all_terms_of_the_residual_stream() -> None:
    one = [Option(1, 0.5, "Q4_0")]
    names = ["output.weight", "token_embd.weight", "blk.0.a.weight", "blk.1.a.weight", "blk.1.b.weight"]
    found = weighed(dict.fromkeys(names, one), names)
    assert [found[name][0].error for name in names] == [2.0, 0.5, 0.5, 0.5, 0.5]
    assert weighed({"token_embd.weight": one}, names[1:])["token_embd.weight"][0].error == 2.0


OPTIONS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 100)), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(tensors=st.lists(OPTIONS, min_size=1, max_size=4), extra=st.integers(0, 80))
def test_no_choice_is_better_by_more_than_one_step(tensors: list[list[tuple[int, int]]], extra: int) -> None:
    options = {
        str(i): [Option(nbytes, float(wrong), f"{j}") for j, (nbytes, wrong) in enumerate(each)]
        for i, each in enumerate(tensors)
    }
    budget = sum(min(o.nbytes for o in each) for each in options.values()) + extra
    found = choose(options, budget)
    assert sum(o.nbytes for o in found.values()) <= budget
    every = [c for c in product(*options.values()) if sum(o.nbytes for o in c) <= budget]
    best = min(sum(o.error for o in c) for c in every)
    largest = max(max(o.error for o in each) - min(o.error for o in each) for each in options.values())
    assert sum(o.error for o in found.values()) <= best + largest
