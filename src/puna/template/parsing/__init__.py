"""What a model says, as content, thinking and tool calls, while it comes.

    parser = open_parser("qwen3")        parser.push("<think>Hm") -> Delta(thinking="Hm")        parser.close()

A format is a row of `formats`, known by name or seen from a chat template. Knows no tokens and no models.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from puna.errors import RequestError
from puna.template.message import Message, parse_messages
from puna.template.parsing.channels import ChannelParser
from puna.template.parsing.format import Format, Section
from puna.template.parsing.formats import ALIASES, DIALECTS, FORMATS
from puna.template.parsing.recognize import format_of_template
from puna.template.parsing.tagged import Delta, TagParser
from puna.template.parsing.tools import Tools

__all__ = ["PARSERS", "Delta", "Format", "Parser", "Section", "find_format", "open_parser", "parse_text"]

PARSERS = tuple(sorted({*FORMATS, *ALIASES}))
"""The names that a Modelfile's PARSER may give."""


class Parser(Protocol):
    """Reads an answer that comes in pieces."""

    format: Format

    @property
    def thinking(self) -> bool:
        """Whether what comes next is thought."""

    def push(self, text: str) -> Delta:
        """What is certain with the next piece of text."""

    def close(self) -> Delta:
        """What was held back, when nothing more comes."""


def find_format(name_or_template: str) -> Format:
    """The format of a name, or the one that a Go or Jinja template is written for.

    RequestError for an unknown name, TemplateError for a template that does not parse.
    """
    name = ALIASES.get(name_or_template, name_or_template)
    if name in FORMATS:
        return FORMATS[name]
    if "{{" in name or "{%" in name:
        return format_of_template(name)
    raise RequestError(f"parser {name!r:.80} is unknown; there are {', '.join(PARSERS)}, or a template's text")


def open_parser(
    format: Format | str,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    think: bool | str | None = None,
    last_message: Message | Mapping[str, Any] | None = None,
    prompt: str = "",
) -> Parser:
    """A parser for one answer in a format, which may be given by name or by a template's text.

    `think` as it was asked for; `last_message` is the last of the conversation, which an assistant's answer continues;
    `prompt` is the text before the answer, whose end shows whether thinking is open. Errors as of `find_format`.
    """
    format = find_format(format) if isinstance(format, str) else format
    last = parse_messages([last_message])[0] if last_message is not None else None
    if last and last.role == "assistant" and prompt and not prompt.rstrip().endswith(last.content.rstrip()):
        last = None  # the template began a new turn
    asked = None if think is None else bool(think)
    if dialect := DIALECTS.get(format.name):
        return ChannelParser(dialect, tools=Tools(tools), think=asked, last_message=last)
    return TagParser(format, tools=Tools(tools), think=asked, last_message=last, prompt=prompt)


def parse_text(parser: Parser, pieces: Iterable[str]) -> Message:
    """A whole answer by a parser."""
    deltas = [*(parser.push(piece) for piece in pieces), parser.close()]
    return Message(
        "assistant",
        "".join(delta.content for delta in deltas),
        "".join(delta.thinking for delta in deltas),
        tool_calls=[call for delta in deltas for call in delta.tool_calls],
    )
