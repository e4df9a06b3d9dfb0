"""Tool calls in any form that names a tool and gives its arguments as JSON, for formats known by their tag only.

{"name": "f", "arguments": {...}}     {"f": {...}}     f({...})     ...f... ```json {...}```
"""

import re
from collections.abc import Iterator
from typing import Any

from puna.template.message import ToolCall
from puna.template.parsing.objects import ARGUMENTS, DECODER, NAMES, balanced
from puna.template.parsing.tools import Tools

_MARKUP = re.compile(r"<[^<>\s][^<>]*>|\[/?\w+\]|```(?:json)?|[\s,;()\[\]{}]+|\bfunction\b")


def read_any(body: str, tools: Tools) -> list[ToolCall | str]:
    """Every object that is a call of a tool that was offered, or by its own name where none was; other text comes back.

    What looks like markup between calls means nothing. ValueError where there is no call at all.
    """
    found: list[ToolCall | str] = []
    at = 0
    for begin, end, value in _objects(body):
        name = _named(body[at:end], value, tools)
        if name is None:
            continue
        arguments = _arguments(value, name)
        if arguments is None:
            continue
        found += [*_words(body[at:begin], name), ToolCall(name, arguments)]
        at = end
    if not found:
        raise ValueError(f"no call in {body!r:.80}")
    return [*found, *_words(body[at:], "")]


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    at = 0
    while (begin := text.find("{", at)) >= 0:
        end = balanced(text, begin)
        at = begin + 1
        if end is None:
            continue
        try:
            value = DECODER.decode(text[begin:end])
        except ValueError:
            continue
        yield begin, end, value
        at = end


def _named(text: str, value: dict[str, Any], tools: Tools) -> str | None:
    """The tool that an object and the text before it name: the object's own word first, else the first in the text."""
    own = _own_name(value)
    if own is not None and (own in tools or not tools):
        return own
    if "" in tools:
        return ""
    if own is not None:
        return None
    spots = []
    for name in tools.names:
        if match := re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
            spots.append((match.start(), name))
    return min(spots)[1] if spots else None


def _own_name(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    named = (value[key] for key in NAMES if isinstance(value.get(key), str))
    return next(named, None) or next((n for v in value.values() if (n := _own_name(v)) is not None), None)


def _arguments(value: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The arguments in an object: under their key, under the tool's name, deeper down, or the object itself."""
    found = _inner(value, name)
    if found is not None:
        return found
    return None if _own_name(value) is not None else value


def _inner(value: dict[str, Any], name: str) -> dict[str, Any] | None:
    named = any(isinstance(value.get(key), str) for key in NAMES)
    for key in ARGUMENTS if named else (name,):
        if key in value and (inner := _object(value[key])) is not None:
            return inner
    if named:
        return None if any(key in value for key in ARGUMENTS) or name == "" else {}
    children = (child for child in value.values() if isinstance(child, dict))
    return next((inner for child in children if (inner := _inner(child, name)) is not None), None)


def _object(value: object) -> dict[str, Any] | None:
    if isinstance(value, str):
        try:
            value = DECODER.decode(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def _words(text: str, name: str) -> list[str]:
    """The text, unless it is but markup and a word: the name of the tool, or what the markup calls it."""
    words = _MARKUP.sub(" ", text.replace(name, " ") if name else text).split()
    return [text] if len(words) > 1 else []
