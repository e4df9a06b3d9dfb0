import json
from collections.abc import Callable

import pytest

from bench.test_limits import GIVEN
from cli.conftest import puna  # noqa: F401 - a fixture
from puna.bench import limits, ops
from puna.bench.ops import Measured


def test_every_kernel_is_measured_beside_its_roofline(
    puna: Callable,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MEMORY", 4 << 20)
    for name, value in {"ROTATED": 1 << 18, "ROWS": (1, 8), "DECODE_AT": 256, "PREFILL": 32, "ROUNDS": 1}.items():
        monkeypatch.setattr(ops, name, value)
    monkeypatch.setattr(ops.measure, "__defaults__", (("Q4_0", "F16"), (64, 256)))
    done = puna("bench", "--ops", "--threads", 1, "--json", "-")
    assert done.status == 0, done.err
    found = json.loads(done.out)["kernels"]
    assert [(each["kernel"], each["rows"]) for each in found] == [
        *(("linear Q4_0", 1), ("linear Q4_0", 8), ("linear F16", 1), ("linear F16", 8)),
        *((op, rows) for op in ("rms_norm", "silu", "silu_mul", "softmax") for rows in (1, 32)),
        *(("attention f16 at 256", 1), ("attention f16 at 32", 32)),
        *(("attention q8_0 at 256", 1), ("attention q8_0 at 32", 32)),
    ]
    assert all(each["seconds"] > 0 and each["least"] > 0 and each["nbytes"] > 0 for each in found)
    assert found[-4]["operations"] == 4 * 256 * 32 * 64
    assert found[-3]["operations"] == 4 * (32 * 33 / 2) * 32 * 64


def test_the_page_of_kernels_says_how_near_each_is() -> None:
    assert list(
        ops.lines([Measured("linear Q4_0", 8, 2e-4, 6e7, 2e6, 1e-4), Measured("silu", 1, 1e-6, 0, 1e5, 5e-7)])
    ) == [
        "kernel       rows    us  GOP/s  GB/s  of roofline",
        "linear Q4_0     8   200    300  10.0         50 %",
        "silu            1  1.00          100         50 %",
    ]


def test_small_operands_are_held_against_the_cache_that_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "cache_size", {2: 1 << 20, 3: 1 << 24}.get)
    given = {**GIVEN.read, "L3": {1: 1e11, 2: 1.5e11}}
    found = limits.Limits(GIVEN.threads, GIVEN.isa, given, GIVEN.peaks, GIVEN.barrier)
    assert [ops._read(n, found) for n in (2 << 20, 3 << 20, 1 << 24, 1 << 25)] == [4e11, 1.5e11, 1.5e11, 3.35e10]
