"""The named Go templates that come with Puna, and their default parameters; see `builtin/NOTICE` for their origin."""

import difflib
import functools
import json
from pathlib import Path
from typing import Any

from puna.errors import TemplateError

FOLDER = Path(__file__).parent / "builtin"


@functools.cache
def builtin_parameters() -> dict[str, dict[str, Any]]:
    """Default parameters (such as `stop`) of every built-in template, by name."""
    table: dict[str, dict[str, Any]] = json.loads((FOLDER / "parameters.json").read_text("utf-8"))
    return table


@functools.cache
def builtin_template(name: str) -> str:
    """The text of a built-in template; an unknown name is a `TemplateError` that lists the names."""
    names = builtin_parameters()
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"closest: {close[0]}; " if close else ""
        raise TemplateError(f"template {name!r} is unknown; {hint}there are {', '.join(names)}")
    return (FOLDER / f"{name}.gotmpl").read_bytes().decode("utf-8")
