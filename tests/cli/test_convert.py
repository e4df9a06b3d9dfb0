"""`puna convert` on the command line: reports, what is refused before work begins, and what messages say."""

import json
import os
from pathlib import Path

import pytest

import puna as library
from cli.tiny import write_tiny


@pytest.mark.parametrize("form", ["json", "html"])
def test_a_source_whose_name_is_no_unicode_is_written_out_in_the_report(puna, home, tiny, form):
    source = home / os.fsdecode(b"caf\xe9.gguf")
    source.symlink_to(tiny)
    said = puna("convert", source, home / "out.gguf", "--report", f"r.{form}")
    assert said.status == 0, said.err
    assert "caf\\udce9.gguf" in (home / f"r.{form}").read_text("utf-8").replace("\\\\", "\\")


def test_a_dry_run_writes_its_report_and_nothing_else(puna, home, tiny):
    assert puna("convert", tiny, "out.gguf", "--dry-run", "--report", "plan.json").status == 0
    assert os.listdir(home) == ["plan.json"]
    assert json.loads((home / "plan.json").read_text())["parameters"] == 94784
    text = " ".join(puna("convert", "--help").out.split())
    assert "write nothing but the --report" in text
    assert "X.json or X.html" in text


@pytest.mark.parametrize(
    ("out", "report", "said"),
    [
        ("out.gguf", "none/r.json", "puna: writing none/r.json: there is no directory none; the name of a new file"),
        ("out.gguf", "r.json", "puna: writing r.json: it is a directory; the name of a new file"),
        ("out.gguf", "r.txt", "puna: writing r.txt: a --report is .json or .html; a name that ends so works"),
        ("r.json", "s.json", "puna: writing r.json: it is a directory; r.json/model.gguf would work"),
        ("none/out.gguf", "s.json", "puna: writing none/out.gguf: there is no directory none; one that exists works"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_converted(puna, home, tiny, out, report, said):
    (home / "r.json").mkdir()
    found = puna("convert", tiny, out, "--report", report)
    assert (found.status, found.out, found.err.count("\n")) == (1, "", 1)
    assert found.err.startswith(said)
    assert os.listdir(home) == ["r.json"]


def test_a_key_that_is_not_there_is_refused_with_the_option_that_lists_keys(puna, tiny):
    said = puna("convert", tiny, "out.gguf", "--remove", "nosuch.key").err
    assert said == "puna: removing 'nosuch.key': there is no such key; `puna show --metadata` lists them\n"


def test_an_empty_list_is_refused_in_words_of_the_command_line(puna, tiny):
    said = puna("convert", tiny, "out.gguf", "--set", "my.empty=[]").err
    assert said == "puna: setting 'my.empty': an empty list has no type; one with an element would work\n"


def test_what_looks_like_a_path_is_said_to_be_neither_a_path_nor_a_model(puna, home):
    for words in (("convert", "models/nosuch", "o.gguf"), ("run", "models/nosuch", "hi"), ("show", "models/nosuch")):
        said = puna(*words)
        assert said.status == 1
        assert "there is no such file or directory, and no model of that name" in said.err
    assert puna("convert", "./nosuch", "o.gguf").err == "puna: opening ./nosuch: there is no such file or directory\n"


def test_the_library_takes_names_in_the_store_too(stored, home):
    report = library.convert(stored, home / "out.gguf", quantize="Q8_0")
    assert report.architecture == "llama"
    assert library.open_gguf(home / "out.gguf").tensors["token_embd.weight"].dtype.name == "Q8_0"


def test_opening_what_is_not_there_is_one_of_puna_s_errors(home):
    for path, said in (("nosuch", "No such file or directory"), (".", "Is a directory"), ("m/x", "Not a directory")):
        Path("m").touch()
        with pytest.raises(library.errors.FormatError, match=f"^opening {path if path != '.' else '[.]'}: {said}; "):
            library.open_gguf(path)


def test_a_plan_says_how_large_the_file_will_be(puna, home, tiny):
    planned = puna("convert", tiny, "out.gguf", "--dry-run").out.splitlines()[-2]
    done = puna("convert", tiny, "out.gguf").out.splitlines()[-1]
    size = (home / "out.gguf").stat().st_size
    assert planned == f"21 tensors of 94,784 parameters would be {size / 1000:.0f} kB"
    assert done == f"21 tensors of 94,784 parameters are {size / 1000:.0f} kB"


def test_a_set_of_shards_of_another_count_is_not_written_beside_one(puna, home, tiny):
    assert puna("convert", tiny, "m.gguf", "--shard-size", "200K").status == 0
    before = sorted(os.listdir(home))
    said = puna("convert", tiny, "m.gguf", "--shard-size", "150K")
    assert said.status == 1
    assert f"{before[0]} is of another set by that name; remove it, or write to another name" in said.err
    assert sorted(os.listdir(home)) == before
    assert puna("convert", tiny, "m.gguf", "--shard-size", "200K").status == 0


def test_a_file_is_converted_onto_itself(puna, home):
    write_tiny(home / "m.gguf")
    before = library.open_gguf(home / "m.gguf").tensors["output.weight"].numpy().copy()
    assert puna("convert", "m.gguf", "m.gguf", "-q", "Q8_0").status == 0
    after = library.open_gguf(home / "m.gguf").tensors["output.weight"]
    assert after.dtype.name == "Q8_0"
    assert abs(after.numpy() - before).max() < 0.01
    assert os.listdir(home) == ["m.gguf"]
