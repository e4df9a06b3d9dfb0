"""The tools that a caller offers, as parsers ask for them: names, what is required, and values typed by a schema."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from puna.template.message import ToolCall

_WHOLE = re.compile(r"[+-]?\d+")
_DEEPEST = 16  # references that lead to themselves
_TYPES = {
    str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null",
}  # fmt: skip


class Tools:
    """Tools in the form of Ollama's and OpenAI's APIs, or their bare functions, looked up by name."""

    def __init__(self, tools: Sequence[Mapping[str, Any]] | None) -> None:
        functions = (tool.get("function") or tool for tool in tools or ())
        self._functions = {str(f.get("name", "")): f for f in functions if isinstance(f, Mapping)}

    def __bool__(self) -> bool:
        return bool(self._functions)

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which the tools were given."""
        return tuple(self._functions)

    def arguments(self, name: str) -> tuple[str, ...]:
        """The arguments that a tool declares."""
        return tuple(self._properties(name))

    def has(self, name: str, argument: str) -> bool:
        """Whether a tool declares an argument."""
        return argument in self._properties(name)

    def types(self, name: str, argument: str) -> tuple[str, ...]:
        """The JSON types that an argument may have; none where the schema does not say."""
        schema = self._parameters(name)
        other = schema.get("additionalProperties")
        return tuple(_types(self._properties(name).get(argument, other), schema))

    def typed(self, name: str, argument: str, text: str) -> Any:
        """What a text without type means as an argument, by the tool's schema."""
        return typed(text, self.types(name, argument))

    def complete(self, call: ToolCall) -> bool:
        """Whether a call is of a tool that was offered, with all that it requires; any is where none was offered."""
        if not self:
            return True
        schema = self._functions.get(call.name, {}).get("parameters") or {}
        return call.name in self and all(argument in call.arguments for argument in schema.get("required") or ())

    def _parameters(self, name: str) -> Mapping[str, Any]:
        schema = self._functions.get(name, {}).get("parameters")
        return schema if isinstance(schema, Mapping) else {}

    def _properties(self, name: str) -> Mapping[str, Any]:
        properties = self._parameters(name).get("properties")
        return properties if isinstance(properties, Mapping) else {}


def typed(text: str, types: Sequence[str]) -> Any:
    """The value that a text means: the narrowest of the types that it can be read as, else the text itself.

    `null` is None whatever the types; a boolean that is neither true nor false is False where nothing else is allowed.
    """
    if text.lower() == "null":
        return None
    for kind, read in _READERS.items():
        if kind in types:
            try:
                return read(text)
            except ValueError:
                if kind == "boolean" and len(types) == 1:
                    return False
    return text


def _types(schema: object, root: Mapping[str, Any], depth: int = 0) -> list[str]:
    """The types that a schema names, itself, in its choices, by reference, or by the values that it lists."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return []
    union = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(union, list) and union:
        return [name for member in union for name in _types(member, root, depth + 1)]
    if kind := schema.get("type"):
        return [kind] if isinstance(kind, str) else [str(name) for name in kind]
    if isinstance(reference := schema.get("$ref"), str):
        return _types(_followed(reference, root), root, depth + 1)
    if isinstance(parts := schema.get("allOf"), list):
        return next((found for part in parts if (found := _types(part, root, depth + 1))), [])
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return [_TYPES[type(value)] for value in values if type(value) in _TYPES] if isinstance(values, list) else []


def _followed(reference: str, root: Mapping[str, Any]) -> object:
    found: object = root
    for name in reference.removeprefix("#").split("/")[1:]:
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _integer(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> int | float:
    if _WHOLE.fullmatch(text):
        return int(text)
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return int(value) if value.is_integer() else value


def _json(kind: type) -> Any:
    def read(text: str) -> Any:
        value = json.loads(text, strict=False)
        if not isinstance(value, kind):
            raise ValueError(text)
        return value

    return read


_READERS = {
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "array": _json(list),
    "object": _json(dict),
}
