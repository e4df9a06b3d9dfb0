"""Tool calls in tags that look like XML and are not: nothing is escaped, and values have no type but the schema's.

<function=f> <parameter=a>1</parameter> </function>        f <arg_key>a</arg_key> <arg_value>1</arg_value>
"""

import re

from puna.template.message import ToolCall
from puna.template.parsing.objects import DECODER, arguments_of, read_objects
from puna.template.parsing.tools import Tools

_FUNCTION = re.compile(r"\s*<function=([^>]+)>(.*?)(?:</function>|(?=<function=)|\Z)\s*", re.DOTALL)
_PARAMETER = re.compile(
    r"\s*<parameter=([^>]+)>(.*?)(?:</parameter>|(?=<parameter=)|\Z)\s*",
    re.DOTALL,
)
_INVOKE = re.compile(r"\s*<(?P<mark>[^<>\s]*?)(?P<tag>invoke|function) name=\"(?P<name>[^\"]+)\">(?P<body>.*?)"
                     r"</(?P=mark)(?P=tag)>\s*", re.DOTALL)  # fmt: skip
_NAMED = re.compile(
    r"\s*<([^<>\s]*?param(?:eter)?) name=\"([^\"]+)\"(?: string=\"(true|false)\")?>(.*?)</\1>\s*", re.DOTALL
)
_ARGUMENT_TAG = re.compile(r"</?arg_(?:key|value)>")
_OTHER_NAMES = {"read_file": "read", "write_file": "write", "edit_file": "edit", "web_fetch": "webfetch"}
"""Names that models trained with other tools say, and what those are called here."""


def read_functions(body: str, tools: Tools) -> list[ToolCall | str]:
    """One `<function=...>` or several. One line break behind a parameter's tag and one before its end are no value."""
    calls: list[ToolCall | str] = []
    at = 0
    while match := _FUNCTION.match(body, at):
        calls.append(ToolCall(match[1], _parameters(match[1], match[2], tools)))
        at = match.end()
    if not calls or body[at:].strip():
        raise ValueError(f"{body[at:]!r:.80} is no function")
    return calls


def read_invokes(body: str, tools: Tools) -> list[ToolCall | str]:
    """`<invoke name="f"><parameter name="a">1</parameter></invoke>`, whatever marks stand before the words."""
    calls: list[ToolCall | str] = []
    at = 0
    while match := _INVOKE.match(body, at):
        arguments, inner = {}, 0
        while value := _NAMED.match(match["body"], inner):
            text = value[4].removeprefix("\n").removesuffix("\n")
            plain = value[3] == "false" and not tools.types(match["name"], value[2])
            arguments[value[2]] = DECODER.decode(text) if plain else tools.typed(match["name"], value[2], text)
            inner = value.end()
        if match["body"][inner:].strip():
            raise ValueError(f"{match['body'][inner:]!r:.80} is no parameter")
        calls.append(ToolCall(match["name"], arguments))
        at = match.end()
    if not calls or body[at:].strip():
        raise ValueError(f"{body[at:]!r:.80} is no call")
    return calls


def read_function(body: str, tools: Tools) -> list[ToolCall | str]:
    """What stands between `<function name="` and `</function>`, as MiniCPM writes it."""
    return read_invokes(f'<function name="{body}</function>', tools)


def in_function(body: str) -> bool:
    """Whether a `<function=...>` was begun and not ended."""
    return body.rfind("<function=") > body.rfind("</function>")


def read_arguments(body: str, tools: Tools) -> list[ToolCall | str]:
    """GLM's name and pairs of key and value, with what is missing of the tags made up for."""
    name, pieces = _head(body)
    arguments, key = {}, None
    for before, text, after in pieces:
        if key is None and (before == "<arg_key>" or after == "</arg_key>"):
            key = text.strip()
        elif key is not None and (before == "<arg_value>" or after == "</arg_value>"):
            whole = before == "<arg_value>" and after == "</arg_value>"
            arguments[key] = tools.typed(name, key, text if whole else text.strip())
            key = None
        elif text.strip():
            raise ValueError(f"{text!r:.80} is neither key nor value")
    if not name or key is not None:
        raise ValueError(f"{body!r:.80} is no call")
    return [ToolCall(name, arguments)]


def read_loose(body: str, tools: Tools) -> list[ToolCall | str]:
    """Laguna's calls: GLM's pairs, or a name and JSON, or JSON; said again without an end between, they count once."""
    calls: list[ToolCall | str] = []
    for part in filter(str.strip, body.split("<tool_call>")):
        for call in _loose(part.strip(), tools):
            if call not in calls[-1:]:
                calls.append(call)
    if not calls:
        raise ValueError("an empty call")
    return calls


def _loose(body: str, tools: Tools) -> list[ToolCall | str]:
    if body.startswith(("{", "[")):
        calls = read_objects(body, tools)
        for call in calls:
            if isinstance(call, ToolCall) and call.name not in tools and _OTHER_NAMES.get(call.name, "") in tools:
                call.name = _OTHER_NAMES[call.name]
        return calls
    name, newline, rest = body.partition("\n")
    if newline and rest.lstrip().startswith("{"):
        return [ToolCall(name.strip(), arguments_of(DECODER.decode(rest.strip())))]
    return read_arguments(body, tools)


def _parameters(name: str, body: str, tools: Tools) -> dict[str, object]:
    arguments: dict[str, object] = {}
    at = 0
    while match := _PARAMETER.match(body, at):
        value = match[2].removeprefix("\n").removesuffix("\n")
        arguments[match[1]] = tools.typed(name, match[1], value)
        at = match.end()
    if body[at:].strip():
        raise ValueError(f"{body[at:]!r:.80} is no parameter")
    return arguments


def _head(body: str) -> tuple[str, list[tuple[str, str, str]]]:
    """The name, and the texts between tags, each with the tag before and the tag behind it."""
    tags = _ARGUMENT_TAG.findall(body)
    texts = _ARGUMENT_TAG.split(body)
    name = texts[0].strip()
    pieces = list(zip(tags, texts[1:], [*tags, ""][1:], strict=False))
    if tags[:1] == ["</arg_key>"]:  # `f a</arg_key>`: the opening tag is missing
        name, _, key = name.partition(" ")
        pieces.insert(0, ("", key, "</arg_key>"))
    return name, pieces
