"""`puna imatrix`: what is written, in which form, and what is refused."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from puna.cli.progress import Progress
from puna.formats.imatrix import Imatrix, open_imatrix, write_imatrix

WORDS = "abc\n" * 64  # one token a byte


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(WORDS)
    return path


def test_a_text_becomes_a_file(puna, stored, text, home):
    outcome = puna("imatrix", stored, text, "--chunk-size", 32, "--backend", "cpu", "--threads", 1)
    assert (outcome.status, outcome.out) == (0, "14 weights over 8 chunks of 32 tokens are in imatrix.gguf\n")
    assert outcome.err == "measuring\n"
    found = open_imatrix(home / "imatrix.gguf")
    assert (found.chunks, found.chunk_size, found.datasets) == (8, 32, ("words.txt",))
    assert found.counts["blk.1.ffn_down.weight"].tolist() == [256]


def test_the_ending_of_the_file_says_its_form(puna, tiny, text, home):
    assert puna("imatrix", tiny, text, "-o", "a.dat", "--chunk-size", 16, "--chunks", 2, "--process-output").status == 0
    assert (home / "a.dat").read_bytes()[:8] == b"\x0f\0\0\0\x13\0\0\0"  # 15 entries, a name of 19 bytes
    assert open_imatrix(home / "a.dat").chunks == 2


def test_files_are_added_up(puna, tiny, text, home):
    for name in ("a.gguf", "b.gguf"):
        assert puna("imatrix", tiny, text, "-o", name, "--chunk-size", 16, "--chunks", 3).status == 0
    merging = ("--in-file", "a.gguf", "--in-file", "b.gguf")
    outcome = puna("imatrix", tiny, "-o", "c.gguf", *merging)
    assert outcome.out == "14 weights over 6 chunks of 16 tokens are in c.gguf\n"
    options = ("--chunk-size", 16, "--from-chunk", 3, "--chunks", 2)
    assert puna("imatrix", tiny, text, "-o", "c.gguf", *options, *merging).status == 0
    assert open_imatrix(home / "c.gguf").counts["blk.0.attn_q.weight"].tolist() == [16 * 8]


@pytest.mark.parametrize(
    ("words", "status", "problem"),
    [
        ([], 2, "neither TEXT nor --in-file is given"),
        (["none.txt"], 1, "none.txt: No such file or directory"),
        (["bad.txt"], 1, "bad.txt: byte 1 is not UTF-8"),
        (["words.txt", "--chunk-size", "257"], 1, "chunks of 257 tokens; 1 to 256 would work"),
        (["empty.txt"], 1, "the text has 0 tokens, no whole chunk of 256"),
        (["--in-file", "words.txt"], 1, "this is no importance matrix"),
    ],
)
def test_what_cannot_be_measured_is_one_line(puna, tiny, text, home, words, status, problem):
    (home / "bad.txt").write_bytes(b"a\xff")
    (home / "empty.txt").write_bytes(b"")
    size = [] if "--chunk-size" in words else ["--chunk-size", "256"]
    outcome = puna("imatrix", tiny, *words, *size)
    assert outcome.status == status
    assert problem in outcome.err
    assert not (home / "imatrix.gguf").exists()


def test_the_older_form_has_chunks_of_the_size_that_is_given(puna, tiny, text, home):
    for name in ("a.dat", "b.dat"):
        assert puna("imatrix", tiny, text, "-o", name, "--chunk-size", 128, "--chunks", 2).status == 0
    adding = ("-o", "c.gguf", "--in-file", "a.dat", "--in-file", "b.dat", "--chunk-size", 128)
    outcome = puna("imatrix", tiny, *adding)
    assert outcome.out == "14 weights over 4 chunks of 128 tokens are in c.gguf\n"
    outcome = puna("imatrix", tiny, text, *adding, "--chunks", 2)
    assert outcome.out == "14 weights over 6 chunks of 128 tokens are in c.gguf\n"
    assert open_imatrix(home / "c.gguf").counts["blk.0.attn_q.weight"].tolist() == [6 * 128]


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("none/im.gguf", "writing none/im.gguf: No such file or directory; -o with"),
        (".", "writing .: Is a directory; -o with"),
        (os.devnull, f"writing {os.devnull}: Not an ordinary file; -o with"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_measuring(puna, tiny, text, home, out, problem):
    outcome = puna("imatrix", tiny, text, "-o", out, "--chunk-size", 16)
    assert outcome.status == 1
    assert problem in outcome.err
    assert "measuring" not in outcome.err
    assert "partial" not in outcome.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_read_when_a_signal_came_is_kept_and_gone_on_from(puna, tiny, text, home, monkeypatch, number, status):
    plain = Progress.__call__

    def interrupted(self, what, done, total):
        plain(self, what, done, total)
        if done == 2 * 64:
            signal.raise_signal(number)

    command = ("imatrix", tiny, text, "--chunk-size", 64, "--backend", "numpy")
    monkeypatch.setattr("puna.engine.imatrix.CHUNK", 64)  # one chunk a step
    monkeypatch.setattr(Progress, "__call__", interrupted)
    monkeypatch.setattr("puna.cli.imatrix.SAVE_SECONDS", 0)
    outcome = puna(*command, "-o", "part.gguf")
    assert outcome.status == status
    assert (
        "2 chunks of 64 tokens of this text are in part.gguf; the same command with "
        "--in-file part.gguf --from-chunk 2 reads the rest"
    ) in outcome.err
    assert open_imatrix(home / "part.gguf").chunks == 2
    monkeypatch.setattr(Progress, "__call__", plain)
    assert puna(*command, "-o", "rest.gguf", "--in-file", "part.gguf", "--from-chunk", 2).status == 0
    assert puna(*command, "-o", "whole.gguf").status == 0
    rest, whole = open_imatrix(home / "rest.gguf"), open_imatrix(home / "whole.gguf")
    assert rest.chunks == whole.chunks == 4
    for name, values in whole.values.items():
        np.testing.assert_allclose(rest.values[name], values, rtol=1e-5)
    assert "_Saving" not in repr(signal.getsignal(number))


@pytest.mark.parametrize(
    ("name", "columns", "problem"),
    [
        (
            "blk.7.attn_q.weight",
            64,
            "'blk.7.attn_q.weight' is in the importance matrix and not in the model, which has",
        ),
        ("blk.1.attn_q.weight", 32, "'blk.1.attn_q.weight' has 32 columns, a weight of shape (64, 64) needs 64"),
    ],
)
@pytest.mark.parametrize("words", [(), ("words.txt",)], ids=["adding files", "measuring too"])
def test_a_file_of_another_model_is_not_added(puna, tiny, text, home, name, columns, problem, words):
    other = Imatrix({name: np.ones((1, columns), np.float32)}, {name: np.array([16])}, 1, 16)
    write_imatrix(home / "other.gguf", other)
    outcome = puna("imatrix", tiny, *words, "--in-file", "other.gguf", "--chunk-size", 16)
    assert outcome.status == 1
    assert problem in outcome.err
    assert f"adding other.gguf to that of {tiny}" in outcome.err
    assert not (home / "imatrix.gguf").exists()


def test_one_chunk_of_one_token_is_said_in_the_singular(puna, tiny, text):
    outcome = puna("imatrix", tiny, text, "--chunk-size", 1, "--chunks", 1)
    assert outcome.out == "14 weights over 1 chunk of 1 token are in imatrix.gguf\n"
