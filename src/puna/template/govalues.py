"""Messages, tool calls and tools as the values that Go templates see.

    Record   a Go struct: a field that it does not have is an error; prints as its JSON or as Go prints structs
    Ordered  a map that ranges in insertion order and prints as JSON

Imported only when a Go template is rendered, for it needs `gotpl`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gotpl import GoSeq2, TemplateExecutionError

from puna.template.message import Message, ToolCall

_TYPESCRIPT = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_TYPESCRIPT |= {"array": "any[]", "object": "Record<string, any>"}
_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


class Record:
    """A Go struct with a fixed set of fields; `json` is what it marshals to, or None where it prints as a struct."""

    def __init__(self, kind: str, fields: dict[str, Any], json: object = None) -> None:
        self.kind, self.fields, self.json = kind, fields, json

    def __gotemplate_lookup__(self, field: str) -> object:
        if field not in self.fields:
            known = ", ".join(self.fields)
            raise TemplateExecutionError(f"a {self.kind} has no field {field}; it has {known}")
        return self.fields[field]

    def __str__(self) -> str:
        if self.json is not None:
            return to_json(self.json)
        return "{" + " ".join("<nil>" if v is None else _text(v) for v in self.fields.values()) + "}"


class Ordered(GoSeq2[str, object]):
    """A JSON object that keeps its order; `values` are pairs whose second half is a template value."""

    __slots__ = ("json",)
    json: Mapping[str, Any]

    def __init__(self, json: Mapping[str, Any], values: Sequence[tuple[str, object]]) -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "json", json)

    def __len__(self) -> int:
        return len(self.json)

    def __str__(self) -> str:
        return to_json(self.json)


class Tools:
    """The list of tools: prints as JSON, ranges over `Record`s."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self.json = [_tool_json(tool) for tool in tools]

    def __iter__(self) -> Iterator[Record]:
        return (_tool(tool) for tool in self.json)

    def __len__(self) -> int:
        return len(self.json)

    def __getitem__(self, part: slice) -> "Tools":
        return Tools(self.json[part])

    def __gotemplate_lookup__(self, field: str) -> object:
        raise TemplateExecutionError(f"the list of tools has no field {field}; range over it")

    def __str__(self) -> str:
        return to_json(self.json)


def message_value(message: Message) -> Record:
    """The fields a template reads of one of `.Messages`."""
    return Record(
        "message",
        {
            "Role": message.role,
            "Content": message.content,
            "Thinking": message.thinking,
            "Images": message.images,
            "ToolCalls": [_tool_call(call) for call in message.tool_calls],
            "ToolName": message.tool_name,
            "ToolCallID": message.tool_call_id,
        },
    )


def to_json(value: object) -> str:
    """JSON as Go's `json.Marshal` writes it: compact, with `<`, `>` and `&` escaped, `3.0` as `3`."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).translate(_HTML)


def to_typescript_type(value: object) -> str:
    """The TypeScript type that stands for one property of a tool."""
    schema = value.json if isinstance(value, Record) and isinstance(value.json, Mapping) else {}
    if options := schema.get("anyOf"):
        return " | ".join(dict.fromkeys(to_typescript_type(_property(option)) for option in options))
    kinds = _list(schema.get("type"))
    return " | ".join(_TYPESCRIPT.get(kind, "any") for kind in kinds) if kinds else "any"


def _tool_call(call: ToolCall) -> Record:
    arguments = _sorted(call.arguments)
    values = Ordered(arguments, list(arguments.items()))
    function = {"Name": call.name, "Arguments": values, "Index": call.index}
    json = {"name": call.name, "arguments": arguments}
    call_json = {**({"id": call.id} if call.id else {}), "function": {"index": call.index, **json}}
    return Record("tool call", {"ID": call.id, "Function": Record("function", function, json)}, call_json)


def _tool(tool: dict[str, Any]) -> Record:
    function = tool.get("function", {})
    fields = {
        "Name": function.get("name", ""),
        "Description": function.get("description", ""),
        "Parameters": _parameters(function.get("parameters") or {}),
    }
    kind = tool.get("type", "")
    return Record("tool", {"Type": kind, "Items": tool.get("items"), "Function": Record("function", fields)}, tool)


def _parameters(schema: Mapping[str, Any]) -> Record:
    fields = {
        "Type": schema.get("type", ""),
        "Defs": schema.get("$defs"),
        "Items": schema.get("items"),
        "Required": _list(schema.get("required")),
        "Properties": _properties(schema.get("properties")),
    }
    return Record("parameters", fields)


def _property(schema: Mapping[str, Any]) -> Record:
    kinds = _list(schema.get("type"))
    fields = {
        "AnyOf": [_property(option) for option in _list(schema.get("anyOf"))],
        "Type": kinds[0] if len(kinds) == 1 else kinds or "",
        "Items": schema.get("items"),
        "Description": schema.get("description", ""),
        "Enum": _list(schema.get("enum")),
        "Properties": _properties(schema.get("properties")),
        "Required": _list(schema.get("required")),
    }
    return Record("property", fields, schema)


def _properties(schema: Mapping[str, Any] | None) -> Ordered | None:
    if schema is None:
        return None
    return Ordered(schema, [(name, _property(p) if isinstance(p, Mapping) else p) for name, p in schema.items()])


def _tool_json(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool with its keys in the order of Ollama's structs; keys that those do not have follow."""
    ordered = _in_order(tool, ("type", "items", "function"))
    if isinstance(tool.get("function"), Mapping):
        function = _in_order({"description": ""} | tool["function"], ("name", "description", "parameters"))
        if isinstance(function.get("parameters"), Mapping):
            order = ("type", "$defs", "items", "required", "properties")
            function["parameters"] = _with_properties(_in_order(function["parameters"], order))
        ordered["function"] = function
    return ordered


def _with_properties(schema: dict[str, Any]) -> dict[str, Any]:
    order = ("anyOf", "type", "items", "description", "enum", "properties", "required")
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        schema["properties"] = {
            name: _with_properties(_in_order(p, order)) if isinstance(p, Mapping) else p
            for name, p in sorted(properties.items())
        }
    return schema


def _sorted(value: Any) -> Any:
    """Objects with their names in order, as Go's maps are seen by templates."""
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _in_order(value: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    return {key: value[key] for key in (*[k for k in order if k in value], *[k for k in value if k not in order])}


def _list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _text(value: object) -> str:
    return "[" + " ".join(map(_text, value)) + "]" if isinstance(value, list) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return _plain(value.json if value.json is not None else value.fields)
    if isinstance(value, Ordered | Tools):
        return _plain(value.json)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value
