"""Arguments of the wrong type: one PunaError that names the argument, before anything is read or written."""

from collections.abc import Callable
from pathlib import Path

import pytest

import puna


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda p: puna.load(5), "opening 5: a model is named by text or a path, not by int"),
        (lambda p: puna.load(None), "opening None"),
        (lambda p: puna.load(p, context_length="x"), "context_length is 'x' (str); a whole number works"),
        (lambda p: puna.load(p, threads=1.5), "threads is '1.5' (float); a whole number works"),
        (lambda p: puna.load(p, threads=True), "threads is 'True' (bool); a whole number works"),
        (lambda p: puna.load(p, backend=3), "backend is '3' (int); text works"),
        (lambda p: puna.convert(None, p), "converting None: the path of a directory or a file works"),
        (lambda p: puna.convert(p, None), "converting: None is no path to write to"),
        (lambda p: puna.convert(p, p, quantize=5), "quantize is '5' (int); text works"),
        (lambda p: puna.convert(p, p, threads="x"), "threads is 'x' (str); a whole number works"),
        (lambda p: puna.convert(p, p, metadata=5), "metadata is '5' (int); Mapping works"),
        (lambda p: puna.create(5, "FROM x"), "creating a model: name is '5' (int); text or ModelName works"),
        (lambda p: puna.create("m", 5), "creating m: modelfile is '5' (int); text or bytes or Modelfile works"),
        (lambda p: puna.create("m", None), "a name and a Modelfile are needed, not None"),
        (lambda p: puna.create("m", "FROM x", store="x"), "store is 'x' (str); Store works"),
        (lambda p: puna.create("m", "FROM x", convert=5), "convert and on_progress are functions"),
        (lambda p: puna.create("m", puna.Modelfile([])), "the Modelfile has no FROM line"),
        (lambda p: puna.open_gguf(5), "opening 5: the path of a GGUF file works"),
        (lambda p: puna.parse_modelfile(5), "a Modelfile is text or bytes, not int"),
        (lambda p: puna.ModelName.parse(5), "model name 5: it is a int; text works"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(
    call: Callable[[Path], object], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    with pytest.raises(puna.PunaError) as caught:
        call(tmp_path / "m.gguf")
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []
