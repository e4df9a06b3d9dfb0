"""The import rules of docs/architecture.md: imports point down, and each library has one home.

Every import counts: at the top of a file, inside a function, or under TYPE_CHECKING.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"

# What each package of puna may import, top to bottom: a row names only rows below it (and itself, always).
# A new package needs a row here and a place in the drawing in docs/architecture.md.
_FILES = "formats quants machine dtypes whole arguments errors"
_RUN = "arch nn cache backends graph"
_ROADS = "create engine store tokenizer template media"
# Modules: a model as its user holds it, where both roads meet.
_MODEL = (
    "loading rendering verifying model asking calling reranking embedding runtime facts opened generation exporting"
)
LAYERS = {
    "__main__": "cli",
    "cli": f"puna server worker bench {_MODEL} {_ROADS} {_RUN} {_FILES}",
    "server": f"puna worker runtime facts opened generation create store template {_FILES}",  # computes nothing
    "worker": f"loading model calling reranking generation template {_FILES}",  # one model in a process
    "bench": f"runtime opened engine {_RUN} {_FILES}",  # token ids: no text
    "parsing": f"loading rendering model template {_FILES}",
    "rendering": f"loading model opened store template {_FILES}",
    "exporting": f"runtime opened engine tokenizer {_RUN} {_FILES}",
    "verifying": f"opened create store {_FILES}",
    "loading": f"model opened {_FILES}",
    "model": f"asking calling runtime reranking opened generation {_ROADS} {_RUN} {_FILES}",
    "asking": f"calling runtime embedding reranking opened generation engine template tokenizer {_FILES}",
    "calling": "engine template errors",
    "runtime": f"embedding reranking opened create engine {_RUN} {_FILES}",  # token ids: no text
    "reranking": "tokenizer errors",
    "facts": f"opened template {_FILES}",
    "opened": f"create store {_FILES}",
    "generation": "engine template tokenizer errors",
    "create": f"embedding store tokenizer template {_RUN} {_FILES}",
    "engine": f"store tokenizer {_RUN} {_FILES}",  # token ids: no templates, no HTTP
    "embedding": "tokenizer errors",
    "store": f"{_FILES}",
    "tokenizer": f"{_FILES}",
    "template": "errors",  # messages and text: no tokens, no models
    "media": "dtypes errors",  # bytes to arrays: no models
    "arch": "nn cache graph dtypes errors",
    "formats": "quants dtypes whole arguments errors",
    "nn": "cache graph dtypes errors",
    "cache": "graph dtypes errors",
    "backends": "graph quants machine dtypes errors",  # never arch, engine or formats
    "graph": "dtypes errors",
    "quants": "machine dtypes errors",
    "machine": "errors",  # what this process may use of it
    "dtypes": "errors",
    "arguments": "errors",
    "whole": "",
    "errors": "",
}

# Where each library outside the standard library may be imported. `puna.backends` holds one module per library.
_ARRAYS = (
    "reranking asking model opened create engine store tokenizer media formats nn cache backends graph "
    "quants dtypes exporting"
)
LIBRARIES = {
    "click": "cli",
    "gotpl": "template",
    "huggingface_hub": "create",
    "jinja2": "template create",
    "libggml": "backends",
    "markdown_it": "cli",
    "mlx": "backends",
    "llama_cpp": "bench",
    "llguidance": "engine",
    "msgspec": "cli server worker",
    "numpy": f"server bench {_ARRAYS}",
    "onnx": "backends exporting",
    "onnxruntime": "backends",
    "prometheus_client": "server",
    "prompt_toolkit": "cli",
    "rich": "cli",
    "sentencepiece": "tokenizer",
    "starlette": "server",
    "tokenizers": "tokenizer",
    "torch": "backends create",
    "transformers": "create",
    "uvicorn": "server",
}

# A file in arch/ is a description: it computes nothing itself and touches nothing outside.
ARCH_FILE = {
    *("puna.nn", "puna.cache", "puna.graph", "puna.arch.base", "puna.errors"),
    *("__future__", "collections.abc", "dataclasses", "math", "typing"),
}
ARCH_SERVICE = {
    "base",
    "binding",
    "hparams",
    "naming",
    "mixture",
    "rope",
    "transform",
}  # files in arch/ that define no architecture but serve those that do
ARCH_FOLDER_NEVER = {"io", "logging", "os", "pathlib", "sys"}
ARCH_LINES = 250


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """The dotted names that `source`, the text of `module`, imports."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def package_of(name: str) -> str:
    """The row of LAYERS for a dotted name under puna; `puna` for the public names themselves."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (parts[1] in LAYERS or is_module(f"puna.{parts[1]}")) else "puna"


def is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def is_arch_file(module: str) -> bool:
    """Whether `module` defines an architecture."""
    return module.startswith("puna.arch.") and module.split(".")[2] not in ARCH_SERVICE


def within(name: str, roots: set[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def faults(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What `module` imports against the rules, one line each."""
    home = package_of(module)
    if home not in LAYERS:
        return [f"{module}: package {home!r} has no row in LAYERS"]
    names = sorted(set(imported(source, module, is_package=is_package)))
    return [f"{module} imports {name}: {why}" for name in names if (why := fault(home, module, name))] + (
        sibling_faults(module, names) if is_arch_file(module) else []
    )


def fault(home: str, module: str, name: str) -> str:
    """Why `module` in package `home` may not import `name`, or nothing."""
    top = name.split(".")[0]
    if is_arch_file(module) and not within(name, {*ARCH_FILE, "puna.arch"}):
        return f"a file in arch/ may import {', '.join(sorted(ARCH_FILE))} and one sibling"
    if home == "arch" and top in ARCH_FOLDER_NEVER:
        return "arch/ touches nothing outside"
    if top == "puna":
        target = package_of(name)
        allowed = target == home or target in LAYERS[home].split()
        return "" if allowed else f"{home} may import {LAYERS[home] or 'nothing of puna'}"
    if top in sys.stdlib_module_names:
        return ""
    return (
        "" if home in LIBRARIES.get(top, "").split() else f"{top} may be imported in {LIBRARIES.get(top, 'no package')}"
    )


def sibling_faults(module: str, names: list[str]) -> list[str]:
    siblings = {name.split(".")[2] for name in names if name.startswith("puna.arch.")} - ARCH_SERVICE
    return [f"{module} imports {', '.join(sorted(siblings))}: one sibling is allowed"] if len(siblings) > 1 else []


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


# puna/__init__.py names everything public, lazily, and is above every row.
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if dotted(path) != "puna"]


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_imports_point_down(path: Path) -> None:
    assert faults(path.read_text("utf-8"), dotted(path), is_package=path.name == "__init__.py") == []


def test_a_file_in_arch_is_short() -> None:
    lines = {dotted(path): len(path.read_text("utf-8").splitlines()) for path in FILES if path.parent.name == "arch"}
    assert {module: count for module, count in lines.items() if count > ARCH_LINES} == {}


def test_a_line_of_native_code_has_120_columns_at_most() -> None:
    for path in (SOURCE.parent / "native").rglob("*.*"):
        long = [i for i, line in enumerate(path.read_text("utf-8").splitlines(), 1) if len(line) > 120]
        assert not long, f"{path}: lines {long}"


def test_each_row_of_the_table_names_only_rows_below_it() -> None:
    rows = list(LAYERS)
    for place, row in enumerate(rows):
        assert set(LAYERS[row].split()) - {"puna"} <= set(rows[place + 1 :]), row


def test_every_library_has_its_home_in_the_table() -> None:
    assert set(" ".join(LIBRARIES.values()).split()) <= set(LAYERS)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("puna.backends.numpy", "from puna.arch import llama"),
        ("puna.backends.cpu", "from puna.formats.gguf import open_gguf"),
        ("puna.backends.cpu", "import puna.engine"),
        ("puna.graph.tensor", "from ..backends import base"),
        ("puna.engine.runner", "from puna.template import render"),
        ("puna.engine.runner", "def late():\n    from puna.server import app"),
        ("puna.store.name", "from puna import load"),
        ("puna.errors", "import puna.dtypes"),
        ("puna.arch.llama", "import numpy as np"),
        ("puna.arch.llama", "import os"),
        ("puna.arch.llama", "import puna.backends"),
        ("puna.arch.llama", "from puna.dtypes import F32"),
        ("puna.arch.llama", "from puna.arch import gemma3, qwen2"),
        ("puna.arch.base", "from pathlib import Path"),
        ("puna.arch.base", "import numpy"),
        ("puna.formats.gguf", "import torch"),
        ("puna.formats.gguf", "import requests"),
        ("puna.store.blobs", "import click"),
        ("puna.unheard_of", "import math"),
    ],
)
def test_an_import_that_points_up_or_out_is_found(module: str, line: str) -> None:
    assert len(faults(line, module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("puna.cli.run", "from puna import load\nimport click"),
        ("puna.backends.numpy", "import numpy\nfrom puna.quants import dequantize\nfrom puna.graph import Tensor"),
        ("puna.graph.tensor", "from . import ops\nfrom .plan import order\nfrom ..dtypes import F32"),
        (
            "puna.arch.qwen3",
            "import math\nfrom puna import nn\nfrom puna.arch.base import Block\nfrom puna.arch.llama import x",
        ),
        ("puna.arch.base", "import dataclasses\nimport functools\nfrom puna.dtypes import DType"),
        ("puna.engine.runner", "import threading\nfrom puna.arch import base\nfrom puna.backends import find_backend"),
    ],
)
def test_an_import_that_points_down_is_allowed(module: str, line: str) -> None:
    assert faults(line, module) == []


def test_a_relative_import_in_a_package_starts_at_the_package() -> None:
    assert list(imported("from . import ops\nfrom .. import errors", "puna.graph", is_package=True)) == [
        "puna.graph.ops",
        "puna.errors",
    ]
