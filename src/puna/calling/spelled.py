"""Arguments and values in a spelling of their own, or as JSON that stands in tags.

a=1, b="text"        a:1,b:<|"|>text<|"|>        {"c": [1, null]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from puna.calling.rules import Rules, Unheld
from puna.calling.schema import Schema, branches, followed
from puna.calling.texts import limits_of, literal, text_of, without
from puna.engine.constrain import json_rule
from puna.template.parsing.style import Spelled

if TYPE_CHECKING:
    from puna.engine.constrain import Vocabulary

QUOTE = literal('"')
NUMBERS = {
    "integer": "/-?(?:0|[1-9][0-9]{0,17})/",
    "number": r"/-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][+\-]?[0-9]{1,2})?/",
}
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
BARE = r"[\w.\-]+"
KEY = r"/[A-Za-z_][A-Za-z0-9_.\-]{0,63}/"


class Values:
    """Writes rules of values that follow schemas within `root`."""

    def __init__(self, style: Spelled, root: Schema, words: Vocabulary, rules: Rules) -> None:
        self._style, self._root, self._words, self._rules = style, root, words, rules
        self._known: dict[str, str] = {}
        self._comma = '("," " "?)' if style.spaced else '","'
        self._colon = '(":" " "?)' if style.spaced else '":"'

    def arguments(self, schema: Schema) -> str:
        """The rule of the arguments of a call."""
        equals = self._words.written(self._style.equals)
        key = self._rules.lexeme(other_key(schema))
        return self._members(schema, lambda name: f"{self._words.written(name)} {equals}", f"{key} {equals}")

    def value(self, schema: Any) -> str:
        """What a value is by a schema."""
        found = [self._branch(branch) for branch in branches(schema, self._root, follow=False)]
        return found[0] if len(found) == 1 else f"({' | '.join(found)})"

    def spelled(self, value: Any) -> str:
        """How a value is written; Unheld where it cannot be."""
        if isinstance(value, str):
            return self._spelled_text(value)
        comma, colon = (", ", ": ") if self._style.spaced else (",", ":")
        if isinstance(value, list):
            return f"[{comma.join(map(self.spelled, value))}]"
        if isinstance(value, Mapping):
            return f"{{{comma.join(f'{self._key(k)}{colon}{self.spelled(v)}' for k, v in value.items())}}}"
        return json.dumps(value)

    def _branch(self, schema: Schema) -> str:
        if "$ref" in schema:
            return self._once(schema["$ref"], followed(schema["$ref"], self._root))
        if "const" in schema:
            return self._words.written(self.spelled(schema["const"]))
        match schema.get("type"):
            case None:
                return self._any()
            case "null":
                return '"null"'
            case "boolean":
                return '("true" | "false")'
            case "integer" | "number":
                return _number(schema)
            case "string":
                return self._text(schema)
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
        raise Unheld(f"'type' {schema['type']!r} is unknown")

    def _once(self, name: str, schema: Any) -> str:
        """The rule of a schema that may be met inside itself."""
        if name not in self._known:
            self._known[name] = self._rules.named()
            self._rules.add(self.value(schema), self._known[name])
        return self._known[name]

    def _any(self) -> str:
        kinds = ("string", "number", "boolean", "null", "array", "object")
        return self._once("any value", {"anyOf": [{"type": kind} for kind in kinds]})

    def _array(self, schema: Schema) -> str:
        """Items that have a place of their own, then those that are alike."""
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        placed = list(schema.get("prefixItems") or ())[:high]
        alike = schema.get("items", True)
        left = 0 if alike is False else None if high is None else high - len(placed)
        inner = self._alike(alike, max(low - len(placed), 0), left, first=not placed)
        for number, part in reversed(list(enumerate(placed))):
            item = f"{self._comma if number else ''} {self.value(part)} {inner}"
            inner = self._rules.add(item if number < low else f"({item})?")
        return self._rules.add(f'"[" {inner} "]"')

    def _alike(self, schema: Any, low: int, high: int | None, *, first: bool) -> str:
        """From `low` to `high` items, behind others or the `first` ones."""
        if high == 0:
            return ""
        item = self.value(schema)
        if not first:
            return f"({self._comma} {item}){{{low},{'' if high is None else high}}}"
        more = f"({self._comma} {item}){{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
        return f"{item} {more}" if low else f"({item} {more})?"

    def _object(self, schema: Schema) -> str:
        key = self._rules.lexeme(other_key(schema) if self._style.bare else self._quoted_key(schema))
        inner = self._members(schema, lambda name: f"{literal(self._key(name))} {self._colon}", f"{key} {self._colon}")
        return self._rules.add(f'"{{" {inner} "}}"')

    def _members(self, schema: Schema, before: Any, other: str) -> str:
        properties = properties_of(schema)
        parts = [(f"{before(name)} {self.value(part)}", needed) for name, part, needed in properties]
        additional = schema.get("additionalProperties", True)
        more = f"{other} {self.value(additional)}" if additional is not False else ""
        return self._rules.sequence(parts, more, self._comma) or '""'

    def _quoted_key(self, schema: Schema) -> str:
        """The names of properties that a schema does not list, between quotes."""
        any_text = without(r"/[^\"\\\x00-\x1f]{0,64}/", self._style.never)
        return f"{QUOTE} {other_key(schema, any_text)} {QUOTE}"

    def _key(self, name: str) -> str:
        if not self._style.bare:
            return self._spelled_text(name)
        if not re.fullmatch(BARE, name):
            raise Unheld(f"'properties': the name {name!r} cannot be written in this format; rename it")
        return name

    def _text(self, schema: Schema) -> str:
        """A text between its marks."""
        mark, inner = self._words.written(self._style.mark), without(self._inside(schema), self._style.never)
        if self._words.is_special(self._style.mark):
            return f"({mark} {self._rules.lexeme(inner)} {mark})"
        return self._rules.lexeme(f"{mark} {inner} {mark}")

    def _inside(self, schema: Schema) -> str:
        """What stands between the marks; where a text is held to something, nothing in it is escaped."""
        if self._style.mark != '"':
            return text_of(schema)
        plain, escape = r"[^\"\\\x00-\x08\x0b-\x1f]", rf"\\{self._style.escapes or '(?s:.)'}"
        limits = limits_of(schema, "Length")
        if "pattern" in schema or "format" in schema:
            return f"({text_of(schema)} & /{plain}*/)"
        if limits:
            return f"/(?:{plain}|{escape}){limits}/" if self._style.escapes else f"/{plain}{limits}/"
        return f"/(?:{plain}|{escape})*/"

    def _spelled_text(self, text: str) -> str:
        single = self._style.mark == '"' and '"' in text and not self._style.escapes
        mark = "'" if single else self._style.mark
        inner = json.dumps(text, ensure_ascii=False)[1:-1] if self._style.escapes else text
        allowed = rf"(?:[^{mark}\\]|\\{self._style.escapes or '.'})*" if mark in "'\"" else ".*"
        if not re.fullmatch(allowed, inner, re.DOTALL) or any(tag in inner for tag in self._style.never):
            raise Unheld(f"{text!r:.60} cannot be written in this format; leaving it out of 'enum' would work")
        return f"{mark}{inner}{mark}"


def _number(schema: Schema) -> str:
    """A number, within its bounds if it has any."""
    bounds = {key: schema[key] for key in sorted(BOUNDS & set(schema))}
    return json_rule({"type": schema["type"], **bounds}) if bounds else NUMBERS[schema["type"]]


def other_key(schema: Schema, among: str = KEY) -> str:
    """The names of properties that a schema does not list."""
    listed = "".join(f" & ~{literal(name)}" for name in schema.get("properties") or ())
    return f"({among}{listed})"


def properties_of(schema: Schema) -> list[tuple[str, Any, bool]]:
    """The properties that are listed or required: names, schemas, and whether they are required."""
    required, listed = list(schema.get("required") or ()), dict(schema.get("properties") or {})
    for name in required:
        if name not in listed:
            if schema.get("additionalProperties", True) is False:
                raise Unheld(f"'required' has {name!r}, and 'properties' has not")
            listed[name] = schema.get("additionalProperties", {})
    return [(name, part, name in required) for name, part in listed.items()]
