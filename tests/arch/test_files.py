"""Architecture files keep their size and the order of their parts."""

import ast
import importlib
from pathlib import Path

import pytest

from puna import arch as archs

FOLDER = Path(archs.__file__).parent
ORDER = ("HF_CLASSES", "Hparams", "Block", "Network", "forward", "attention", "feed_forward", "HF_NAMES", "from_hf")


def parts(path: Path) -> list[str]:
    """Names that a file defines itself, in order; what it takes from a sibling stands on top."""
    out: list[str] = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            out.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict | ast.Tuple):
            out += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return out


def path_of(name: str) -> Path:
    """An architecture's file."""
    return FOLDER / f"{name.replace('-', '_')}.py"


@pytest.mark.parametrize("name", archs.names())
def test_the_parts_of_an_architecture_are_in_order(name: str) -> None:
    found = [part for part in parts(path_of(name)) if part in ORDER]
    assert found == [part for part in ORDER if part in found]
    module = importlib.import_module(f"puna.arch.{path_of(name).stem}")
    assert all(hasattr(module, part) for part in ("HF_CLASSES", "Block", "Network", "forward"))
    assert hasattr(module, "attention") or hasattr(module, "mix")  # which is what a block without attention does


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_no_file_has_more_than_250_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 250


@pytest.mark.parametrize("name", archs.names())
def test_the_docstring_links_to_the_reference(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((path_of(name)).read_text("utf-8"))) or ""
    assert "https://" in docstring
