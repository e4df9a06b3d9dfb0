"""How answers are written, found out by rendering one: a template shows a call and a thought to itself.

    a call of `probed` with {"argument": "value"}      ...<call>{"name": "probed", "arguments": ...}</call>...

What stands around them are the tags; the way to read a call is the one that reads this call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from puna.errors import PunaError
from puna.template.message import Message, ToolCall
from puna.template.parsing.format import Format, Reader, Section
from puna.template.parsing.functions import in_function, read_arguments, read_functions, read_invokes
from puna.template.parsing.objects import end_of_list, end_of_named, end_of_object, in_string, read_named, read_objects
from puna.template.parsing.python import read_python
from puna.template.parsing.search import read_any
from puna.template.parsing.tools import Tools
from puna.template.parsing.written import KEY, NAME, TOOL, VALUE, written

if TYPE_CHECKING:
    from puna.template import Template

THOUGHT = "probedthought"
_USER = Message("user", "question")
_CALL = Message("assistant", tool_calls=[ToolCall(NAME, {KEY: VALUE})])
_ANSWER = Message("assistant", "answer")
_THOUGHT = Message("assistant", "answer", THOUGHT)
_MARK = re.compile(r"</?[^<>\s/][^<>]{0,60}>|\[/?[A-Z][A-Z_]{2,}\]")
_READERS: tuple[tuple[Reader, Callable[[str], bool] | None], ...] = (
    (read_objects, in_string),
    (read_functions, in_function),
    (read_invokes, None),
    (read_arguments, None),
    (read_named, in_string),
    (read_python, None),
    (read_any, in_string),
)


def probed(template: Template) -> Format:
    """The format of a compiled template's answers, as far as it shows."""
    answer = called(template)
    section = _section(answer, frozenset(_MARK.findall(_answer(template, _ANSWER))))
    marks = _MARK.findall(answer[: answer.rindex(section.close)]) if section else []
    thinking = _thinking(_rendered(template, [_USER, _THOUGHT], add_generation_prompt=False))
    sections = (section,) if section else ()
    return written(Format("inferred", thinking, sections=sections, marks=tuple(marks)), answer)


def called(template: Template) -> str:
    """An answer with one call, of `TOOL`."""
    return _answer(template, _CALL)


def _rendered(template: Template, messages: list[Message], **variables: Any) -> str:
    try:
        return template.render(messages, tools=[TOOL], think=True, **variables)
    except PunaError:
        return ""  # a template may refuse what is asked for here


def _answer(template: Template, said: Message) -> str:
    """What a template makes of a message, behind the prompt that it makes of those before; no tag is cut."""
    begun = _rendered(template, [_USER], add_generation_prompt=True)
    whole = _rendered(template, [_USER, said], add_generation_prompt=False)
    pairs = enumerate(zip(begun, whole, strict=False))
    start = next((i for i, (a, b) in pairs if a != b), min(len(begun), len(whole)))
    tag = whole.rfind("<", 0, start)
    return whole[tag if tag > whole.rfind(">", 0, start) else start :]


def _section(answer: str, plain: frozenset[str]) -> Section | None:
    """The section of the one call in an answer; marks in `plain` answers belong to no call."""
    if NAME not in answer or VALUE not in answer:
        return None
    begin, end = answer.index(NAME), answer.rindex(VALUE) + len(VALUE)
    opens = [m for m in _MARK.finditer(answer, 0, begin) if not m[0].startswith("</") and m[0] not in plain]
    closes = [m for m in _MARK.finditer(answer, end) if m[0] not in plain]
    for reader, inside in _READERS:
        for opening in opens:
            for close in sorted(closes, key=lambda m: m[0].replace("/", "") != opening[0]):
                if _reads(reader, answer[opening.end() : close.start()]):
                    return Section(opening[0], close[0], reader, inside=inside)
    return _unclosed(answer, opens)


def _unclosed(answer: str, opens: list[re.Match[str]]) -> Section | None:
    """The section of a call behind which no tag stands."""
    text = answer.lstrip()
    for bracket, ending in (("{", end_of_object), ("[", end_of_list)):
        if text.startswith(bracket) and (end := ending(text, True) or 0) > 0 and _reads(read_objects, text[:end]):
            return Section(bracket, "", read_objects, end=ending, bare=True, first=True, after=" \n\t\r,;]}")
    for opening in opens:
        body = answer[opening.end() :]
        if (end := end_of_named(body, True) or 0) > 0 and _reads(read_named, body[:end]):
            return Section(opening[0], "", read_named, end=end_of_named)
    return None


def _reads(reader: Reader, body: str) -> bool:
    try:
        return reader(body, Tools([TOOL])) == [ToolCall(NAME, {KEY: VALUE})]
    except (ValueError, RecursionError):
        return False


def _thinking(text: str) -> tuple[str, str] | None:
    """The tags right around the thought in a text."""
    match = re.search(rf"({_MARK.pattern})\s*{THOUGHT}\s*({_MARK.pattern})", text)
    return (match[1], match[2]) if match and match[2].replace("/", "") == match[1] else None
