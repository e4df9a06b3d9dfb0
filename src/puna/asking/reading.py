"""How answers of a model that was opened are read: its format of thinking and tool calls. It knows no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from puna.asking.prompting import template_of
from puna.errors import TemplateError
from puna.opened import Opened

if TYPE_CHECKING:
    from puna.template import Message
    from puna.template.parsing import Format, Parser


def format_of(opened: Opened) -> Format:
    """How a model writes thinking and tool calls: by its PARSER, else RENDERER, else as its template shows."""
    from puna.template.parsing import PARSERS, find_format

    for name in (opened.parser, opened.renderer):
        if name in PARSERS:
            return find_format(name)
    try:
        return find_format(template_of(opened) or "passthrough")
    except TemplateError:
        return find_format("passthrough")


def parser_for(
    opened: Opened,
    format: Format,
    messages: Sequence[Message | Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None,
    think: bool | str | None,
    prompt: str,
) -> Parser:
    """A parser for one answer to `messages`, which were rendered as `prompt`.

    Without `tools` there are no calls of them, and what looks like one is text, unless a PARSER reads it.
    """
    from puna.template.parsing import PARSERS, open_parser

    last = messages[-1] if messages else None
    named = {opened.parser, opened.renderer} & set(PARSERS)
    format = format if tools or named else replace(format, sections=(), silent=(), marks=())
    return open_parser(format, tools=tools, think=think, last_message=last, prompt=prompt)
