"""The grammar of an answer that may call tools, or has to: names of those offered, arguments by their schemas.

A call is written as the model's own format writes it; what the model thinks before stays free.

    forced      call+                    else      text (call text)*: where one is begun, it has to be one
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from puna.calling.arguments import argument_rules
from puna.calling.calls import Calls
from puna.calling.free import NAME, free_rules
from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.engine.constrain import Vocabulary
    from puna.template.parsing import Format


def answer_rules(calls: Calls, format: Format, words: Vocabulary, content: str = "") -> str:
    """Rules of a Lark grammar for `answer`; `content` is the rule that one without calls follows, any text if empty.

    RequestError where the format cannot be held to any, and for a tool that does not fit.
    """
    if format.writes is None:
        raise RequestError(
            f"{calls.held} is not available for the format in which this model calls tools ({format.name}); "
            'tool_choice "auto" without strict would work'
        )
    names = _names(calls, format)
    said = [] if calls.forced else free_rules(calls, format, words, content)
    begin = words.written(format.writes[0].partition(NAME)[0])
    forced = ["answer: calls"] if calls.forced else []
    arguments = [argument_rules(i, tool, calls.forced, format, words) for i, tool in enumerate(calls.callable)]
    rules = [*forced, *said, f"calls: {begin} called", *_called(calls, format, names, words), *arguments]
    return "\n".join(rules) + "\n"


def _called(calls: Calls, format: Format, names: Sequence[str], words: Vocabulary) -> list[str]:
    """A call from its name on, and those behind it."""
    before, behind = format.writes or ("", "")
    again, _, _ = format.again.partition(NAME)
    more = calls.several and bool(again)
    return [
        f"called: {_each(before, names, format, words)}{f' ({words.written(again)} next)*' if more else ''} "
        f"{words.written(behind, ends=True)}",
        *([f"next: {_each(format.again, names, format, words)}"] if more else []),
    ]


def _each(text: str, names: Sequence[str], format: Format, words: Vocabulary) -> str:
    """What stands from the name on before the arguments of a call, for each tool."""
    rest = text.partition(NAME)[2]
    quoted = rest.startswith('"') and not format.style
    spelled = [json.dumps(name, ensure_ascii=False)[1:-1] if quoted else name for name in names]
    calls = [f"{words.written(name + rest.replace(NAME, name))} arguments_{i}" for i, name in enumerate(spelled)]
    return f"({' | '.join(calls)})"


def _names(calls: Calls, format: Format) -> list[str]:
    """How the format writes the names of tools; RequestError for one that it would not read again."""
    from puna.template.parsing.tools import Tools

    tools = Tools(calls.tools)
    own = {name: spelled for spelled, name in format.spells(tools).items()} if format.spells else {}
    names = Tools(calls.callable).names
    for name in names:
        spelled, keys = own.get(name, name), tools.arguments(name) if format.style else ()
        if _read(spelled, keys, calls, format) == (name, list(keys)):
            continue
        if _read(spelled, (), calls, format) != (name, []):
            raise RequestError(f"tools: the model's format ({format.name}) has no way to call {name!r}; rename it")
        lost = [key for key in keys if _read(spelled, (key,), calls, format) != (name, [key])]
        raise RequestError(
            f"tools: the parameters of {name!r}: 'properties' has {(lost or list(keys))[0]!r}, for which the model's "
            f"format ({format.name}) has no way; rename it"
        )
    return [own.get(name, name) for name in names]


def _read(name: str, keys: tuple[str, ...], calls: Calls, format: Format) -> tuple[str, list[str]] | None:
    """The name and the arguments that are read where a call is written with these."""
    from puna.template.parsing import open_parser, parse_text

    before, behind = format.call_around(name) or ("", "")
    text = f"{before}{format.style.example(keys) if format.style else '{}'}{behind}"
    said = parse_text(open_parser(format, tools=calls.tools, think=False), [text]).tool_calls
    return (said[0].name, list(said[0].arguments)) if len(said) == 1 else None
