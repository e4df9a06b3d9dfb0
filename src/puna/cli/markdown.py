"""Markdown as lines for a terminal: what is finished of a text that grows, and how it looks."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import ClassVar

from markdown_it import MarkdownIt
from rich import markdown as rich_markdown
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.syntax import Syntax

CODE_THEME = "ansi_dark"
"""The terminal's own colours."""

_EMPTY = re.compile(r"(?:\x1b\[[0-9;]*m|\s)*")
_parser = MarkdownIt().enable(["strikethrough", "table"])


class _Heading(rich_markdown.Heading):
    """A heading at the left, without a frame."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text


class _Code(rich_markdown.CodeBlock):
    """Code that is not cut, without a background."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = Syntax(
            str(self.text).rstrip(), self.lexer_name, theme=self.theme, word_wrap=True, background_color="default"
        )
        yield Padding(code, (0, 0, 0, 2))


class _Document(rich_markdown.Markdown):
    elements: ClassVar[dict[str, type[rich_markdown.MarkdownElement]]] = {
        **rich_markdown.Markdown.elements,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
    }


class Markdown:
    """Blocks: paragraphs, lists, tables, code. All but the last are finished."""

    gap = "\n\n"

    def finished(self, text: str) -> int:
        """Up to where the second block begins."""
        if "\n" not in text:
            return 0
        starts = [token.map[0] for token in _parser.parse(text) if token.level == 0 and token.map]
        return sum(len(line) + 1 for line in text.split("\n")[: starts[1]]) if len(starts) > 1 else 0

    def lines(self, text: str, width: int) -> list[str]:
        """As `rich` draws it, without the blank lines around it."""
        console = _console(width)
        with console.capture() as captured:
            console.print(_Document(text, code_theme=CODE_THEME, hyperlinks=False))
        lines = [line.rstrip() for line in captured.get().split("\n")]
        while lines and _EMPTY.fullmatch(lines[-1]):
            lines.pop()
        while lines and _EMPTY.fullmatch(lines[0]):
            lines.pop(0)
        return lines


@lru_cache(maxsize=2)
def _console(width: int) -> Console:
    return Console(force_terminal=True, width=width, legacy_windows=False)
