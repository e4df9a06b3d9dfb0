"""`puna imatrix`: what is written, in which form, and what is refused."""

from pathlib import Path

import pytest

from puna.formats.imatrix import open_imatrix

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
