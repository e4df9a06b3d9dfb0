"""Tool calls written as JSON.

{"name": "f", "arguments": {...}}      a list of them      f[ARGS]{...}      f<｜tool▁sep｜>{...}
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from puna.template.message import ToolCall
from puna.template.parsing.format import NEVER
from puna.template.parsing.tools import Tools

DECODER = json.JSONDecoder(strict=False)  # models write line breaks into strings
NAMES = ("name", "tool_name", "function")
ARGUMENTS = ("arguments", "parameters", "args")
_KEYS = (*NAMES, *ARGUMENTS, "type", "id")
_FIRST_KEY = re.compile(r'\{\s*"([^"]{24}|[^"]*(?="))')

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_BETWEEN = re.compile(r"[\s,;]*")
_NAMED = re.compile(r"\s*([^\s\[\]{}<>]+)\s*(?:\[CALL_ID\]([^\[\]{}]*))?(?:\[ARGS\])?\s*(?=[{])")
_NAMED_BEGINS = re.compile(r"\s*(?:[\[{]|[^\s\[\]{}<>]{1,128}\s*(?:$|[\[{]))|\s*$")
_NUMBERED = re.compile(r"\s*(?:functions\.)?(.+?):\d+\s*")
_FENCED = re.compile(r"\s*(\S[^\n`]*?)\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)
_SEPARATOR = "<｜tool▁sep｜>"


def read_objects(body: str, tools: Tools) -> list[ToolCall | str]:
    """An object, several, or a list of them."""
    values = list(_values(body))
    listed = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    if not listed:
        raise ValueError(f"no call in {body!r:.80}")
    return [call_of(value) for value in listed]


def read_each(body: str, tools: Tools) -> list[ToolCall | str]:
    """The objects of a list, each on its own: one that is not JSON comes back as text beside the others."""
    found: list[ToolCall | str] = []
    text, at = body.strip().removeprefix("[").removesuffix("]"), 0
    while (begin := text.find("{", at)) >= 0:
        if (end := balanced(text, begin)) is None:
            break
        try:
            call: ToolCall | str = call_of(DECODER.decode(text[begin:end]))
        except ValueError:
            call = text[begin:end]
        found += [*_words(text[at:begin]), call]
        at = end
    found += _words(text[at:])
    if all(isinstance(piece, str) for piece in found):
        raise ValueError(f"no call in {body!r:.80}")
    return found


def read_named(body: str, tools: Tools) -> list[ToolCall | str]:
    """A name and the JSON of its arguments, or a JSON list of calls."""
    match = _NAMED.match(body)
    if not match:
        return read_objects(body, tools)
    call = ToolCall(match[1], arguments_of(DECODER.decode(body[match.end() :])), id=match[2] or "")
    return [call]


def read_separated(body: str, tools: Tools) -> list[ToolCall | str]:
    """DeepSeek's `name SEPARATOR {...}`, or `function SEPARATOR name` with the arguments fenced as JSON."""
    name, separator, rest = body.partition(_SEPARATOR)
    if not separator:
        raise ValueError(f"no {_SEPARATOR} in {body!r:.80}")
    if fenced := _FENCED.fullmatch(rest):
        if name.strip() != "function":
            raise ValueError(f"a call of {name!r:.40}, which is no function")
        return [ToolCall(fenced[1], arguments_of(DECODER.decode(fenced[2])))]
    return [ToolCall(name.strip(), arguments_of(DECODER.decode(rest.strip())))]


def read_numbered(body: str, tools: Tools) -> list[ToolCall | str]:
    """Kimi's `functions.f:0`, which is the call's identity, and the JSON of its arguments."""
    head, separator, arguments = body.partition("<|tool_call_argument_begin|>")
    match = _NUMBERED.fullmatch(head)
    if not separator or not match:
        raise ValueError(f"{body!r:.80} is no call")
    return [ToolCall(match[1], arguments_of(DECODER.decode(arguments.strip())), id=head.strip())]


def end_of_named(body: str, final: bool) -> int | None:
    """Where a name with its JSON, or a JSON list, ends."""
    if not _NAMED_BEGINS.match(body):
        return NEVER
    begin = re.search(r"[{]", body) if not body.lstrip().startswith("[") else re.search(r"\[", body)
    return balanced(body, begin.start()) if begin else None


def end_of_object(body: str, final: bool) -> int | None:
    """Where the JSON object at the start of a body ends; NEVER where it cannot be one that names a tool."""
    if re.match(r"\{\s*[^\s\"]", body):
        return NEVER
    return balanced(body, 0)


def end_of_call(body: str, final: bool) -> int | None:
    """As `end_of_object`, but NEVER too where its first key is none of a call's: an answer in JSON need not wait."""
    first = _FIRST_KEY.match(body)
    return NEVER if first and first[1] not in _KEYS else end_of_object(body, final)


def end_of_list(body: str, final: bool) -> int | None:
    """Where the JSON list of objects at the start of a body ends; with nothing more to come, behind its last object."""
    if re.match(r"\[\s*[^\s{]", body):
        return NEVER
    return balanced(body, 0)


def in_string(body: str) -> bool:
    """Whether a JSON text breaks off inside a string."""
    pieces = [match[0] for match in _PIECE.finditer(body)]
    return bool(pieces) and pieces[-1][0] == '"' and not re.fullmatch(r'"(?:[^"\\]|\\.)*"', pieces[-1], re.DOTALL)


def balanced(text: str, begin: int) -> int | None:
    """Where the bracket at `begin` is closed again, strings passed over; None where it is not."""
    try:
        return DECODER.raw_decode(text, begin)[1]
    except json.JSONDecodeError as error:
        if error.pos >= len(text) - 8 or error.msg.startswith("Unterminated string"):
            return None  # it goes on; to count brackets would take as long as the text at every piece of it
    except RecursionError:
        return None
    depth = 0
    for match in _PIECE.finditer(text, begin):
        depth += match[0] in "{["
        depth -= match[0] in "}]"
        if depth == 0:
            return match.end()
    return None


def call_of(value: object) -> ToolCall:
    """The call that a JSON value is; ValueError where it is none."""
    if isinstance(value, Mapping) and isinstance(inner := value.get("function"), Mapping):
        value = inner
    name = next((value[key] for key in NAMES if key in value), None) if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(name, str):
        raise ValueError(f"{value!r:.80} names no tool")
    return ToolCall(name, arguments_of(next((value[key] for key in ARGUMENTS if key in value), None)))


def arguments_of(value: object) -> dict[str, Any]:
    """Arguments from an object, from its text, or from nothing; ValueError else."""
    if isinstance(value, str):
        value = DECODER.decode(value or "{}")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"arguments {value!r:.80} are no object")
    return value


def _values(text: str) -> Iterator[Any]:
    at = _end_of_space(text, 0)
    while at < len(text):
        value, end = DECODER.raw_decode(text, at)
        yield value
        at = _end_of_space(text, end)


def _end_of_space(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _words(text: str) -> list[str]:
    return [text] if text.strip(" \t\r\n,;[]") else []
