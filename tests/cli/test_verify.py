"""`puna verify`: its page, its JSON and its exit status."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.tiny import metadata, weights
from puna.cli.verify import BAR, bar
from puna.formats import write_gguf


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    tensors = {n: t * np.float32(1.5) if n == "blk.1.ffn_up.weight" else t for n, t in weights().items()}
    write_gguf(tmp_path / "broken.gguf", metadata(), [(n, t.shape, "F32", t) for n, t in tensors.items()])
    return tmp_path / "broken.gguf"


def test_the_status_is_0_for_the_same_model_and_the_page_has_every_stage(puna: Callable, tiny: Path) -> None:
    found = puna("verify", tiny, "--against", tiny, "--tokens", 20)
    assert found.status == 0, found.err
    rows = found.out.splitlines()
    assert rows[0].startswith("20 tokens on ")
    assert [row.split("  ")[0] for row in rows[2:6]] == ["embedding", "block 0", "block 1", "output"]
    assert rows[-1] == f"{tiny}: ok; not checked: files"


def test_the_status_is_1_for_drift_and_the_last_line_says_where(puna: Callable, tiny: Path, broken: Path) -> None:
    found = puna("verify", broken, "--against", tiny, "--tokens", 20)
    assert found.status == 1
    assert "puna:" not in found.err
    assert found.out.splitlines()[-1] == (
        f"{broken}: drift in tensors, blocks, output; the first to drift is block 1; not checked: files"
    )
    assert "'blk.1.ffn_up.weight' (F32): error 0.25, cosine 1.0000" in found.out
    assert "block 1 errs by" in found.out


def test_json_is_all_that_is_on_standard_output(tiny: Path, broken: Path) -> None:
    command = [sys.executable, "-m", "puna", "verify", str(broken), "--against", str(tiny), "--tokens", "9", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    data = json.loads(done.stdout)
    assert (data["ok"], data["first_drift"], data["tokens"]) == (False, "block 1", 9)


def test_limits_and_text_are_options(puna: Callable, tiny: Path, broken: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abc")
    loose = ("--max-tensor", 1, "--max-block", 1, "--max-kl", 1, "--min-top1", 0)
    found = puna("verify", broken, "--against", tiny, "--text", tmp_path / "text.txt", *loose)
    assert found.status == 0, found.out
    assert found.out.startswith("3 tokens")


def test_a_name_in_the_store_is_held_to_its_digests(puna: Callable, stored: str) -> None:
    found = puna("verify", stored, "--tokens", 9)
    assert found.status == 0, found.out
    assert any(line.startswith("files            ok") for line in found.out.splitlines())


def test_a_model_that_is_not_there_is_one_line(puna: Callable) -> None:
    found = puna("verify", "nothing.gguf")
    assert (found.status, found.out) == (1, "")
    assert found.err.startswith("puna: opening nothing.gguf: there is no such file")


@pytest.mark.parametrize(
    ("error", "limit", "length"),
    [
        (0, 1, 0),
        (1e-9, 1, 0),
        (1, 1, BAR),
        (5, 1, BAR),
        (0.01, 1, BAR / 2),
        (1e-5, 1e-3, BAR / 2),
        (float("nan"), 1, BAR),
    ],
)
def test_a_bar_tells_how_near_to_its_limit_an_error_is(error: float, limit: float, length: float) -> None:
    assert bar(error, limit) == "#" * int(length)


def test_a_check_that_could_not_run_leaves_the_model_unverified_with_status_1(puna: Callable, tiny: Path) -> None:
    found = puna("verify", tiny, "--backend", "numpy", "--tokens", 9)
    assert found.status == 1
    last = found.out.splitlines()[-1]
    assert last == f"{tiny}: not verified, for blocks could not run; not checked: files, source"


@pytest.mark.parametrize(
    "option",
    [
        *(("--threads", 0), ("--backend", "gpu"), ("--min-top1", 7), ("--max-kl", -1), ("--max-block", -1)),
        *(("--max-tensor", -0.5), ("--tokens", 1)),
    ],
)
def test_an_option_out_of_range_is_a_usage_error(option: tuple[str, object], puna: Callable, tiny: Path) -> None:
    found = puna("verify", tiny, *option)
    assert found.status == 2
    assert option[0] in found.err
