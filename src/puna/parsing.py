"""`puna.parse_output`: a model's answer as content, thinking and tool calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puna.template.message import Message


def parse_output(
    ref_or_format: str,
    text_or_chunks: str | Iterable[str],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    think: bool | str | None = None,
    last_message: Message | Mapping[str, Any] | None = None,
) -> Message:
    """The message that an answer says. `ref_or_format` is the name of a parser as in a Modelfile, a template's text, or
    a reference as `puna.load` takes it.

    How the text is cut into chunks changes nothing; what cannot be read as a call comes back as content. `last_message`
    is the last of the conversation, which an answer of the assistant continues. RequestError, TemplateError.
    """
    from puna.rendering import is_reference
    from puna.template.parsing import PARSERS, open_parser, parse_text

    pieces = [text_or_chunks] if isinstance(text_or_chunks, str) else text_or_chunks
    format: Any = ref_or_format
    if ref_or_format not in PARSERS and is_reference(ref_or_format):
        from puna.loading import load

        format = load(ref_or_format).format
    return parse_text(open_parser(format, tools=tools, think=think, last_message=last_message), pieces)
