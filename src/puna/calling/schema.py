"""JSON Schemas as calls are held to them: references followed, choices taken apart into schemas of one type each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from puna.calling.rules import Unheld

Schema = Mapping[str, Any]
UNHELD = frozenset(
    ("patternProperties", "minProperties", "maxProperties", "propertyNames", "dependencies", "dependentRequired",
     "dependentSchemas", "additionalItems", "contains", "uniqueItems", "unevaluatedProperties",
     "unevaluatedItems", "not", "if", "then", "else")
)  # fmt: skip
"""Keywords that only a grammar of JSON is held to, or none."""
NAMED = ("properties", "$defs", "definitions")
SILENT = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"})
"""Keywords that hold a value to nothing."""
KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def branches(schema: Any, root: Schema, *, follow: bool = True) -> Iterator[Schema]:
    """The schemas that a value may follow: of one type, of none for any value, or with "const".

    A reference is followed, or else comes as it is. Unheld for what is not understood.
    """
    schema = {} if schema is True else schema
    if not isinstance(schema, Mapping):
        raise Unheld(f"{schema!r:.40} is no schema that a value could follow")
    if unheld := sorted(UNHELD & {key for key, value in schema.items() if value is not False}):
        raise Unheld(f"{unheld[0]!r} is not available in this format; leaving it out would work")
    rest = {key: value for key, value in schema.items() if key not in SILENT}
    if "$ref" in rest:
        target = followed(rest.pop("$ref"), root)
        yield from branches(joined(rest, target), root) if follow or rest else [{"$ref": schema["$ref"]}]
    elif all_of := rest.pop("allOf", None):
        for each in all_of:
            rest = joined(rest, followed(each["$ref"], root) if "$ref" in each else each)
        yield from branches(rest, root, follow=follow)
    elif union := (rest.pop("anyOf", None) or rest.pop("oneOf", None)):
        for each in union:
            yield from branches(joined(rest, each) if rest else each, root, follow=follow)
    else:
        yield from _typed(rest)


def followed(reference: str, root: Schema) -> Schema:
    """What a reference into the same schema means."""
    found: Any = root
    for name in str(reference).removeprefix("#").split("/")[1:]:
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    if not str(reference).startswith("#") or not isinstance(found, Mapping):
        raise Unheld(f"'$ref' is {reference!r}, which is not there")
    return found


def joined(one: Schema, other: Any) -> dict[str, Any]:
    """A schema that asks for what both do."""
    whole = {key: value for key, value in dict(one).items() if key not in SILENT}
    for key, value in dict(other).items():
        if key in SILENT or key not in whole or whole[key] == value:
            whole[key] = value
        elif key in NAMED:
            whole[key] = {**whole[key], **value}
        elif key == "required":
            whole[key] = [*whole[key], *value]
        elif key == "additionalProperties" and False in (value, whole[key]):
            whole[key] = False
        else:
            raise Unheld(f"{key!r} is asked for twice, and not the same")
    return whole


def _typed(schema: dict[str, Any]) -> Iterator[Schema]:
    kinds = schema.get("type")
    listed = [kinds] if isinstance(kinds, str) else list(kinds or ())
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        fitting = [v for v in values if not listed or kind_of(v) in listed or (_whole(v) and "number" in listed)]
        if not fitting:
            raise Unheld("'enum' has no value of the type")
        yield from ({"const": value} for value in fitting)
        return
    if not listed:
        listed = [kind for kind, key in (("object", "properties"), ("array", "items")) if key in schema]
    yield from ({**schema, "type": kind} for kind in listed) if listed else [schema]


def kind_of(value: Any) -> str:
    """The type of a JSON value."""
    return "null" if value is None else KINDS[type(value)]


def _whole(value: Any) -> bool:
    return kind_of(value) == "integer"
