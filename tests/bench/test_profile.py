import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cli.conftest import puna, tiny  # noqa: F401 - fixtures
from golden.checkpoints import write_checkpoint
from puna.bench import profile, roofline
from puna.bench.profile import Part, Profile
from puna.bench.work import Work

GIVEN = Profile(
    Work("decode 4", 1, steps=4),
    threads=2,
    wall=0.0105,
    native=0.010,
    waiting=0.004,
    parts=[Part("linear Q4_0", 0.012, 40, 2.4e8, 1.2e8), Part("write", 0.001, 4)],
)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_parts_of_a_profile_are_no_more_than_the_time_of_all_threads(
    puna: Callable,  # noqa: F811
    tiny: Path,  # noqa: F811
    tmp_path: Path,
    threads: int,
) -> None:
    svg = tmp_path / "roof.svg"
    words = ("--prefill", "24", "--decode", "3", "--rounds", 2, "--threads", threads, "--json", "-", "--svg", svg)
    done = puna("bench", tiny, "--profile", *words)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert [each["work"]["name"] for each in found["profiles"]] == ["prefill 24", "decode 3"]
    for each in found["profiles"]:
        assert 0 < each["native"] <= each["wall"]
        assert 0 < sum(p["seconds"] for p in each["parts"]) + each["waiting"] <= each["native"] * threads
        kinds = {p["kind"]: p for p in each["parts"]}
        assert {"attention", "write", "embedding"} <= set(kinds)
        assert any(kind.startswith("linear ") and p["operations"] > 0 for kind, p in kinds.items())
    assert found["engine_seconds"]["outside"] > 0
    plot = ElementTree.fromstring(svg.read_text("utf-8"))
    assert plot.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_model_that_recurs_has_a_profile(puna: Callable, tmp_path: Path) -> None:  # noqa: F811
    """The engine keeps one memory of a sequence beside the one that a step leaves."""
    folder = write_checkpoint(tmp_path / "hf", "rwkv7")
    done = puna("bench", folder, "--profile", "--prefill", "8", "--decode", "2", "--rounds", 1, "--json", "-")
    assert done.status == 0, done.err
    kinds = {part["kind"] for each in json.loads(done.out)["profiles"] for part in each["parts"]}
    assert {"recurrence", "causal_conv1d"} <= kinds


def test_what_neither_a_step_nor_a_barrier_took_is_told_apart() -> None:
    assert GIVEN.python == pytest.approx(0.0005)
    assert GIVEN.other == pytest.approx(0.003)


def test_the_page_of_a_profile_says_time_share_and_speed() -> None:
    assert list(profile.lines([GIVEN], (0.0001, 0.0099))) == [
        "decode 4: 10.5 ms a step, 10.0 in the program, 500 us outside",
        "kind                 thread ms  share  units  GOP/s  GB/s",
        "linear Q4_0               12.0   60 %     40   20.0  10.0",
        "write                     1.00    5 %      4",
        "waiting at barriers       4.00   20 %",
        "other                     3.00   15 %",
        "",
        "python: 100 us of a step of the engine, 1 % (one sequence, sampling too)",
    ]


def test_a_point_is_what_all_threads_do_for_each_byte() -> None:
    assert profile.points(GIVEN) == {"linear Q4_0": (2.0, pytest.approx(4e10))}


def test_a_roofline_has_every_roof_and_every_point_under_names_of_any_kind() -> None:
    reads = {"memory": 4e10, "L3": 1e11}
    text = roofline.svg(
        "a < b & c", reads, {"int8": 1e12, "f32": 2e11}, {"x<y": {"p": (2.0, 4e10), "none": (0.0, 1.0)}}
    )
    plot = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert len(plot.findall(f"{space}polyline")) == 2
    assert [t.text for t in plot.findall(f"{space}circle/{space}title")] == ["p, x<y: 40 GOP/s at 2 operations a byte"]
    texts = [t.text for t in plot.iter(f"{space}text")]
    assert {"a < b & c", "int8 1000", "f32 200", "p, x<y", "memory 40 GB/s", "L3 100 GB/s"} <= set(texts)
    assert "prefers-color-scheme: dark" in text


def test_a_plot_goes_with_a_profile_and_a_profile_with_the_cpu_backend(puna: Callable, tiny: Path) -> None:  # noqa: F811
    assert puna("bench", tiny, "--svg", "r.svg").status == 2
    assert puna("bench", tiny, "--profile", "--backend", "numpy").status == 2
    assert puna("bench", tiny, "--profile", "--peer").status == 2


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_measured(puna: Callable, tiny: Path) -> None:  # noqa: F811
    for options in (("--json", "no/where.json"), ("--profile", "--svg", "no/where.svg")):
        done = puna("bench", tiny, *options)
        assert done.status == 2
        assert "there is no folder" in done.err
