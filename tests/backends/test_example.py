"""The example of docs/add-a-backend.md is a backend: it computes every op, and a model, as the definition does."""

import re
from pathlib import Path

import numpy as np
import pytest

from backends import example
from cli.tiny import write_tiny
from conformance.running import check, run
from puna import backends, load
from puna.backends import numpy as definition
from puna.backends import open_backend
from puna.graph.cases import CASES, cases
from puna.graph.ops import OPS

PAGE = Path(__file__).parent.parent.parent / "docs" / "add-a-backend.md"


@pytest.fixture(autouse=True)
def found(monkeypatch):
    monkeypatch.setitem(backends.MODULES, "example", "backends.example")
    monkeypatch.setattr(backends, "ALONE", (*backends.ALONE, "example"))


def test_the_page_shows_the_example_as_it_is():
    (shown,) = re.findall(r"```python\n(import numpy.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert shown == Path(example.__file__).read_text("utf-8").split('"""\n\n', 1)[1]


def test_it_is_thirty_lines_besides_imports_and_heads():
    code = Path(example.__file__).read_text("utf-8").split("class Program")[1].splitlines()
    assert len([line for line in code if line.strip() and not line.strip().startswith(("class", "def", "@"))]) <= 31


@pytest.mark.parametrize("op", CASES)
def test_it_computes_every_op(op):
    for case in cases(op):
        expected = run(definition.open_backend(), case)
        check(str(case), run(open_backend("example"), case), expected, max(OPS[op].nmse, 1e-9) if OPS[op].nmse else 0)


def test_it_runs_a_model(tmp_path):
    path = write_tiny(tmp_path / "tiny.gguf")
    said, expected = (load(path, backend=name).logits([1, 5, 9, 3]) for name in ("example", "numpy"))
    assert np.abs(said - expected).max() < 1e-4
