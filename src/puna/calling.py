"""The grammar of an answer that may call tools, or has to: names of those offered, arguments by their schemas.

A call is written as the model's own format writes it; what the model thinks before stays free.

    forced      call+                    else      text (call text)*: where one is begun, it has to be one
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.engine.constrain import Vocabulary
    from puna.template.parsing import Format

NAME = "NAME"


@dataclass(frozen=True, slots=True)
class Calls:
    """What an answer may call. `forced`: it has to; `several`: more than one, if the format can."""

    tools: Sequence[Mapping[str, Any]]
    forced: bool = False
    several: bool = True

    @property
    def held(self) -> bool:
        """Whether calls are held to a grammar: they are forced, or a tool is strict."""
        return self.forced or any(function_of(tool).get("strict") for tool in self.tools)


def calls_of(
    tools: Sequence[Mapping[str, Any]] | None, choice: str | None = None, several: bool | None = None
) -> Calls | None:
    """What an answer may call by a `choice`: "required", "auto" or none said, "none". RequestError for another one."""
    if choice not in (None, "auto", "none", "required"):
        raise RequestError(f"tool_choice is {choice!r}; auto, none, required would work")
    if choice == "required" and not tools:
        raise RequestError("tool_choice is 'required', and there are no tools; give some in tools")
    return Calls(tools, choice == "required", several is not False) if tools and choice != "none" else None


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function of a tool, which may be given bare."""
    function = tool.get("function")
    return function if isinstance(function, Mapping) else tool


def answer_rules(calls: Calls, format: Format, words: Vocabulary, content: str = "") -> str:
    """Rules of a Lark grammar for `answer`; `content` is the rule that one without calls follows, any text if empty.

    RequestError where the format cannot be held to any, and for a tool that does not fit.
    """
    if format.writes is None:
        what = "forced tool choice" if calls.forced else "strict tools"
        raise RequestError(
            f"{what} is not available for the format in which this model calls tools ({format.name}); "
            'tool_choice "auto" without strict would work'
        )
    names = _names(calls, format)
    said = [] if calls.forced else _said(calls, format, words, content)
    begin = words.written(format.writes[0].partition(NAME)[0])
    forced = ["answer: calls"] if calls.forced else []
    arguments = [f"arguments_{i}: {_arguments(tool, calls, words)}" for i, tool in enumerate(calls.tools)]
    rules = [*forced, *said, f"calls: {begin} called", *_called(calls, format, names, words), *arguments]
    return "\n".join(rules) + "\n"


def _called(calls: Calls, format: Format, names: Sequence[str], words: Vocabulary) -> list[str]:
    """A call from its name on, and those behind it."""
    before, behind = format.writes or ("", "")
    again, _, _ = format.again.partition(NAME)
    more = calls.several and bool(again)
    return [
        f"called: {_each(before, names, words)}{f' ({words.written(again)} next)*' if more else ''} "
        f"{words.written(behind, ends=True)}",
        *([f"next: {_each(format.again, names, words)}"] if more else []),
    ]


def _each(text: str, names: Sequence[str], words: Vocabulary) -> str:
    """What stands from the name on before the arguments of a call, for each tool."""
    rest = text.partition(NAME)[2]
    quoted = rest.startswith('"')
    calls = [
        f"{words.written((json.dumps(name, ensure_ascii=False)[1:-1] if quoted else name) + rest)} arguments_{i}"
        for i, name in enumerate(names)
    ]
    return f"({' | '.join(calls)})"


def _said(calls: Calls, format: Format, words: Vocabulary, content: str) -> list[str]:
    """An answer that need not call: content or calls; of any text, calls are held to from where each begins."""
    heads = words.written(format.heads)
    if content:
        return [f"answer: {heads} {content} | calls"]
    opens = [section.open for section in format.sections if section.calls]
    begin = (format.writes or ("", ""))[0].partition(NAME)[0]
    other = words.others([*opens, *words.tags(begin)])
    text = f"(TEXT {other})* TEXT" if other else "TEXT"
    rules = ["TEXT: /(?s:.*)/"]
    bare = [s.open for s in format.sections if s.bare and begin.startswith(s.open)]
    if format.heads:
        return [f"answer: {heads} {text} | calls", *rules]
    if bare:
        free = f"({other} | FIRST) ({other} | TEXT)*" if other else "FIRST"
        return [f"answer: ({free})? | calls", f"FIRST: /\\s+/ | /\\s*[^\\s{bare[0]}](?s:.*)/", *rules]
    hits = [
        f"hit_{i}: TEXT {words.written(tag)} {words.written(rest)} called"
        if words.is_special(tag)
        else f"hit_{i}: caught_{i} {words.written(rest)} called\ncaught_{i}[lazy]: TEXT {words.written(tag)}"
        for i, (tag, rest) in enumerate(_triggers(begin, opens))
    ]
    free = f"(TEXT {other})* " if other else ""
    hit = f"({' | '.join(f'hit_{i}' for i in range(len(hits)))})"
    whole = f"({free}{hit})* {free}TEXT" if calls.several else f"{free}TEXT | {free}{hit}"
    return [f"answer: {whole}", *hits, *rules]


def _triggers(begin: str, opens: Sequence[str]) -> list[tuple[str, str]]:
    """The tags that begin a call, each with what comes between it and the name."""
    for tag in opens:
        before, found, rest = begin.partition(tag)
        if found:
            return [*([(before, tag + rest)] if before else []), (tag, rest)]
    return [(begin, "")]


def _names(calls: Calls, format: Format) -> list[str]:
    """How the format writes the names of tools; RequestError for one that it would not read again."""
    from puna.template.parsing import open_parser, parse_text
    from puna.template.parsing.tools import Tools

    tools = Tools(calls.tools)
    own = {name: spelled for spelled, name in format.spells(tools).items()} if format.spells else {}
    for name in tools.names:
        before, behind = format.call_around(own.get(name, name)) or ("", "")
        parser = open_parser(format, tools=calls.tools, think=False)
        if [(call.name, call.arguments) for call in parse_text(parser, [f"{before}{{}}{behind}"]).tool_calls] != [
            (name, {})
        ]:
            raise RequestError(f"tools: the model's format ({format.name}) has no way to call {name!r}; rename it")
    return [own.get(name, name) for name in tools.names]


def _arguments(tool: Mapping[str, Any], calls: Calls, words: Vocabulary) -> str:
    """The rule of a tool's arguments: its schema, or any object where nobody asked that it be kept to."""
    from puna.engine.constrain import json_rule, refusal

    function = function_of(tool)
    name, schema = function.get("name"), function.get("parameters") or {}
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise RequestError(f"tools: the parameters of {name!r} are no schema of an object; type 'object' would work")
    rule = json_rule({"type": "object", **schema} if calls.forced or function.get("strict") else {"type": "object"})
    if reason := refusal(words, f"start: {rule}"):
        raise RequestError(f"tools: the parameters of {name!r}: {reason}")
    return rule
