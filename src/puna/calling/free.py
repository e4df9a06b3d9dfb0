"""The rules of an answer that need not call: content or calls, and where a call begins in a text, it has to be one.

answer: (text call)* text        answer: call | text that begins as none does
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from puna.calling.calls import Calls
from puna.calling.texts import ANY, escaped

if TYPE_CHECKING:
    from puna.engine.constrain import Vocabulary
    from puna.template.parsing import Format

NAME = "NAME"


def free_rules(calls: Calls, format: Format, words: Vocabulary, content: str) -> list[str]:
    """Rules for `answer`, which lead to `calls` and `called`; `content` is what follows a rule, any text if empty."""
    heads = words.written(format.heads)
    if content:
        return [f"answer: {heads} {content} | calls"]
    begin = (format.writes or ("", ""))[0].partition(NAME)[0]
    opens = [section.open for section in format.sections if not section.bare]
    other = words.others([*opens, *words.tags(begin), *(format.markup if format.heads else ())])
    never = "|".join(_never(format, begin))
    text = f"TEXT: {ANY} & ~/(?s:.*)(?:{never})(?s:.*)/" if never else f"TEXT: {ANY}"
    if format.heads:
        return [f"answer: {heads} {f'(TEXT {other})* ' if other else ''}TEXT | calls", text]
    if bare := next((s.open for s in format.sections if s.bare and begin.startswith(s.open)), ""):
        free = f"({other} | FIRST) ({other} | TEXT)*" if other else "FIRST"
        first = f"FIRST: (/\\s+/ | /\\s*[^\\s{escaped(bare)}](?s:.*)/) & TEXT"
        return [f"answer: ({free})? | calls", first, text]
    return [*_held(calls, format, words, begin, other), text]


def _held(calls: Calls, format: Format, words: Vocabulary, begin: str, other: str) -> list[str]:
    """Any text with calls in it. What it begins with is told apart where only there a bracket would begin a call."""
    opens = [section.open for section in format.sections if section.calls]
    first = "".join(escaped(section.open) for section in format.sections if section.bare and section.first)
    free = f"(TEXT {other})* " if other else ""
    hit, hits = _hits("TEXT", _triggers(begin, opens), words)
    rest = f"({free}{hit})* {free}TEXT" if calls.several else f"{free}(TEXT | {hit})"
    if not first:
        return [f"answer: {rest}", *hits]
    begun, more = _hits("FIRST", _triggers(begin, opens), words)
    spoken = f" | SPOKEN {other} {rest}" if other else ""
    return [
        f"answer: FIRST | {begun}{f' {rest}' if calls.several else ''}{spoken}",
        f"FIRST: TEXT & ~/\\s*[{first}](?s:.*)/",
        f"SPOKEN: TEXT & /\\s*[^\\s{first}](?s:.*)/",
        *hits,
        *more,
    ]


def _hits(text: str, triggers: Sequence[tuple[str, str]], words: Vocabulary) -> tuple[str, list[str]]:
    """What a text followed by a call is, and the rules for that."""
    name = text.lower()
    hits = [
        f"{name}_hit_{i}: {text} {words.written(tag)} {words.written(rest)} called"
        if words.is_special(tag)
        else f"{name}_hit_{i}: {name}_{i} {words.written(rest)} called\n{name}_{i}[lazy]: {text} {words.written(tag)}"
        for i, (tag, rest) in enumerate(triggers)
    ]
    return f"({' | '.join(f'{name}_hit_{i}' for i in range(len(hits)))})", hits


def _triggers(begin: str, opens: Sequence[str]) -> list[tuple[str, str]]:
    """The tags that begin a call, each with what comes between it and the name."""
    for tag in opens:
        before, found, rest = begin.partition(tag)
        if found:
            return [*([(before, tag + rest)] if before else []), (tag, rest)]
    return [(begin, "")]


def _never(format: Format, begin: str) -> list[str]:
    """What no text may have in it: other beginnings of calls, which are held to nothing."""
    if format.heads:
        return [escaped(mark) for mark in format.marks if format.writes and mark in format.writes[0]]
    others = [s for s in format.sections if not s.muted and s.open not in begin]
    tags = [escaped(section.open) for section in others if not section.bare]
    anywhere = [escaped(s.open) for s in others if s.bare and not s.first]
    return [*tags, *(rf"{bracket}\s*\"(?:{_KEYS})\"" for bracket in anywhere)]


_KEYS = "name|tool_name|function|arguments|parameters|args|type|id"
"""What an object that is a call begins with."""
