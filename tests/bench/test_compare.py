import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import puna, tiny  # noqa: F401 - fixtures
from puna.bench import compare
from puna.bench.compare import Comparison, Line
from puna.bench.work import Work

PREFILL = Work("prefill 8", 8)
DECODE = Work("decode 4", 1, start=2, steps=4, kv_type="q8_0")


class Fixed:
    """A session whose runs take the seconds given, and say who ran."""

    setting = "fa on"

    def __init__(self, name: str, seconds: list[float], log: list[str]) -> None:
        self.name, self.seconds, self.log = name, iter(seconds), log

    def run(self) -> float:
        self.log.append(self.name)
        return next(self.seconds)


def compared() -> tuple[list[Line], list[str]]:
    log: list[str] = []
    sessions = {
        "a": [Fixed("a", [1, 2, 4], log), Fixed("a", [1, 1, 1], log)],
        "b": [Fixed("b", [2, 2, 2], log), Fixed("b", [4, 4, 4], log)],
    }
    lines = compare.make_lines([PREFILL, DECODE], sessions)
    compare.rounds(lines, sessions, 3, lambda work: 16.0 if work is PREFILL else 8.0)
    return lines, log


def test_contenders_take_turns_and_who_begins_changes() -> None:
    assert compared()[1] == ["a", "b", "a", "b", "b", "a", "b", "a", "a", "b", "a", "b"]


def test_shares_and_ratios_are_medians_of_the_rounds_own() -> None:
    prefill, decode = compared()[0]
    assert prefill.rates == {"a": [8, 4, 2], "b": [4, 4, 4]}
    assert (prefill.share("a"), prefill.share("b"), prefill.ratio()) == (0.25, 0.25, 1)
    assert (decode.share("a"), decode.share("b"), decode.ratio()) == (0.5, 0.125, 4)


def test_the_table_says_rates_shares_ratios_and_what_stands_beside_them() -> None:
    memory = {"peak": 300_000_000, "weights": 200_000_000, "kv": 60_000_000, "rest": 40_000_000}
    found = Comparison("m", 2, compared()[0], {"a": 0.5, "b": 1.25}, memory, [3e10, 4e10, 5e10], {"b": "built so"})
    assert list(compare.lines(found)) == [
        "work            a tok/s                  of limit  b tok/s                  of limit  ratio",
        "prefill 8          4.00  (2.00 to 8.00)      25 %     4.00  (4.00 to 4.00)      25 %  1.00x",
        "decode 4, q8_0     4.00  (4.00 to 4.00)      50 %     1.00  (1.00 to 1.00)      12 %  4.00x",
        "prefill 8: a with fa on",
        "prefill 8: b with fa on",
        "decode 4: a with fa on",
        "decode 4: b with fa on",
        "read 40.0 GB/s (30.0 to 50.0) on 2 thread(s), beside each round",
        "a loaded in 0.50 s, b opened (weights come with the first tokens) in 1.25 s",
        "memory: 300 MB at most = weights 200 + K/V 60 + 40 MB",
        "b: built so",
    ]


def test_the_json_has_every_sample() -> None:
    found = json.loads(json.dumps(Comparison("m", 2, compared()[0], {"a": 0.5}, {}, [3e10]).to_dict()))
    assert set(found) == {
        *("schema", "model", "threads", "machine", "read_bytes_per_second", "load_seconds", "memory_bytes", "peers"),
        "work",
    }
    assert found["work"][0] == {
        "name": "prefill 8",
        "tokens": 8,
        "start": 0,
        "sequences": 1,
        "steps": 1,
        "kv_type": "f16",
        "limit_tokens_per_second": 16.0,
        "ratio": 1.0,
        "contenders": {
            name: {
                "tokens_per_second": 4.0,
                "least": min(samples),
                "most": max(samples),
                "samples": samples,
                "share_of_limit": 0.25,
                "setting": "fa on",
            }
            for name, samples in {"a": [8.0, 4.0, 2.0], "b": [4.0, 4.0, 4.0]}.items()
        },
    }


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_model_is_measured(puna: Callable, tiny: Path, tmp_path: Path, backend: str) -> None:  # noqa: F811
    sizes, out = "--prefill=24 --decode=3 --batched=2 --context=100 --rounds=2 --kv-type=f16,f32", tmp_path / "out.json"
    done = puna("bench", tiny, "--backend", backend, "--threads", 1, "--json", out, *sizes.split())
    assert done.status == 0, done.err
    assert [line.split("  ")[0] for line in done.out.splitlines()[1:5]] == [
        *("prefill 24", "decode 3", "decode 2 at once", "decode at 100"),
    ]
    found = json.loads(out.read_text())
    assert len(found["work"]) == 8
    for line in found["work"]:
        (ours,) = line["contenders"].values()
        assert len(ours["samples"]) == 2
        assert 0 < ours["least"] <= ours["tokens_per_second"] <= ours["most"]
        assert line["ratio"] is None
        assert (ours["share_of_limit"] is None) == (backend == "numpy")
    assert found["memory_bytes"]["peak"] > found["memory_bytes"]["kv"] > 0


def test_limits_of_a_machine_take_no_model(puna: Callable) -> None:  # noqa: F811
    done = puna("bench", "model.gguf", "--limits")
    assert done.status == 2
    assert "without MODEL" in done.err


def test_limits_alone_need_no_model(puna: Callable) -> None:  # noqa: F811
    done = puna("bench", "--limits", "--json", "-", "--threads", 1)
    assert done.status == 0, done.err
    assert json.loads(done.out)["threads"] == 1


def test_without_a_model_the_call_is_wrong(puna: Callable) -> None:  # noqa: F811
    assert puna("bench").status == 2


@pytest.mark.parametrize("numbers", ["0", "x", "1,,2", "-5", ""])
def test_sizes_are_lists_of_numbers(puna: Callable, tiny: Path, numbers: str) -> None:  # noqa: F811
    done = puna("bench", tiny, "--prefill", numbers)
    assert done.status == 2
    assert "is not a list like 512,2048" in done.err


def test_more_positions_than_the_model_has_are_refused(puna: Callable, tiny: Path) -> None:  # noqa: F811
    done = puna("bench", tiny, "--prefill", "257")
    assert (done.status, done.err.strip()) == (
        1,
        "puna: measuring tiny.gguf: 257 positions; this model was made for 1 to 256",
    )


def test_an_unknown_type_of_kv_is_named(puna: Callable, tiny: Path) -> None:  # noqa: F811
    done = puna("bench", tiny, "--kv-type", "f17", "--decode", "1")
    assert done.status == 1
    assert "kv_type 'f17' is unknown" in done.err


def test_an_absent_peer_says_how_to_install_it(
    puna: Callable,  # noqa: F811
    tiny: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    done = puna("bench", tiny, "--peer")
    assert done.status == 1
    assert done.err.strip().endswith("not installed here; `pip install llama-cpp-python` builds it")
