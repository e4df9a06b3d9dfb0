import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import puna as puna_package
from cli.tiny import write_tiny
from puna.cli import main


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without models and without a server."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.delenv("PUNA_HOST", raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")  # where nothing listens
    monkeypatch.setenv("PYTHONPATH", str(Path(puna_package.__file__).parent.parent))  # for processes, wherever they run
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def puna(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The command in this process; `typed` is what comes on standard input."""

    def call(*words: object, typed: str | bytes = "") -> Outcome:
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(typed if isinstance(typed, bytes) else typed.encode()))
        )
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        return Outcome(int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def stored(puna: Callable[..., Outcome], home: Path, tiny: Path) -> str:
    """The tiny model under a name."""
    (home / "Modelfile").write_text(f"FROM {tiny}\nPARAMETER temperature 0\n")
    assert puna("create", "tiny").status == 0
    return "tiny"
