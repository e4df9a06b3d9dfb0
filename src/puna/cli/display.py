"""How an answer appears: as it comes, or on a terminal wrapped between words, or drawn as Markdown.

A page is drawn as lines, of which only those that change are written again, and never one that has scrolled away.
"""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
SHARE = 10
"""Of the time between two drawings, a drawing may take one part in so many."""

CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What a model says and a terminal would obey."""


@dataclass(slots=True)
class Manner:
    """How answers are to be shown, where that can be done. `thinking`: whether what is thought is."""

    markdown: bool = True
    wrap: bool = True
    thinking: bool = True


class Display(Protocol):
    """Where an answer appears."""

    def say(self, text: str) -> None:
        """A piece of what is said."""

    def think(self, text: str) -> None:
        """A piece of what is thought."""

    def end(self) -> None:
        """Nothing more comes; the cursor stays behind the last line."""


class Lines(Protocol):
    """How text becomes lines; `gap` is what is between two blocks of them."""

    gap: str

    def finished(self, text: str) -> int:
        """How many characters its first block has, 0 where it may still go on."""

    def lines(self, text: str, width: int) -> list[str]:
        """Its lines, of at most `width` columns."""


class Raw:
    """What is said goes to stdout as it is; what is thought, dimmed, if it is shown at all."""

    def __init__(self, *, thinking: bool) -> None:
        self._shown = thinking
        self._thinking = False

    def say(self, text: str) -> None:
        """Behind a blank line where thoughts came before."""
        if self._thinking and text:
            write("\n\n")
            self._thinking = False
        write(text)

    def think(self, text: str) -> None:
        """Dimmed."""
        if self._shown:
            write(f"{DIM}{text}{PLAIN}")
            self._thinking = True

    def end(self) -> None:
        """All is written already."""


class Drawn:
    """What is said and thought, on pages of their own."""

    def __init__(self, lines: Lines, *, thinking: bool) -> None:
        self._lines = lines
        self._shown = thinking
        self._page: Page | None = None
        self._of: Lines | None = None

    def say(self, text: str) -> None:
        """On a page of its own."""
        self._put(text, self._lines)

    def think(self, text: str) -> None:
        """Dimmed, in plain lines."""
        if self._shown:
            self._put(text, THOUGHTS)

    def end(self) -> None:
        """Draw what is not yet."""
        if self._page:
            self._page.end()

    def _put(self, text: str, lines: Lines) -> None:
        if not text:
            return
        if self._page and self._of is not lines:
            self._page.end()
            write("\n\n")
            self._page = None
        if not self._page:
            self._page, self._of = Page(lines), lines
        self._page.push(text)


class Page:
    """Text that grows, drawn block by block below the cursor."""

    def __init__(self, lines: Lines, out: Callable[[str], None] | None = None) -> None:
        self._lines = lines
        self._out = out or write
        self._text = ""
        self._drawn: list[str] = []
        self._above = False  # whether finished blocks are above
        self._next = 0.0

    def push(self, text: str) -> None:
        """Draw what a piece adds, unless the last drawing was just now."""
        self._text += text.translate(CONTROLS).replace("\t", "    ")
        if (begun := time.monotonic()) >= self._next:
            self._draw()
            now = time.monotonic()
            self._next = now + SHARE * (now - begun)

    def end(self) -> None:
        """Draw all there is."""
        self._draw()

    def _draw(self) -> None:
        from shutil import get_terminal_size

        width, height = get_terminal_size()
        while done := self._lines.finished(self._text):
            self._show(self._lines.lines(self._text[:done], width - 1), height)
            self._text, self._above, self._drawn = self._text[done:], True, []
        self._show(self._lines.lines(self._text, width - 1), height)

    def _show(self, lines: list[str], height: int) -> None:
        """Replace the lines that are drawn by others; the cursor is behind the last one before and after."""
        old, same = self._drawn, _common(self._drawn, lines)
        first = max(same, len(old) - height + 1)  # above are lines that the terminal does not give back
        first = min(first, max(len(lines) - 1, 0))
        if lines == old or not lines:
            return
        if self._above and not old:
            self._out(self._lines.gap)
        if first == len(old):
            self._out(("\n" if old else "") + "\n".join(lines[first:]))
        elif first == len(old) - 1 and lines[first].startswith(old[first]):
            self._out("\n".join([lines[first][len(old[first]) :], *lines[first + 1 :]]))
        else:
            up = len(old) - 1 - first
            self._out((f"\x1b[{up}A" if up else "") + "\r\x1b[J" + "\n".join(lines[first:]))
        self._drawn = lines


def _common(one: list[str], other: list[str]) -> int:
    """How many lines both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class Wrapped:
    """Lines broken between words."""

    gap = "\n"

    def __init__(self, before: str = "", behind: str = "") -> None:
        self._before, self._behind = before, behind

    def finished(self, text: str) -> int:
        """A whole line."""
        return text.find("\n") + 1

    def lines(self, text: str, width: int) -> list[str]:
        """Each line of the text as many as it needs."""
        whole = text.removesuffix("\n").split("\n") if text else []
        return [f"{self._before}{part}{self._behind}" for line in whole for part in wrapped(line, width)]


def wrapped(line: str, width: int) -> Iterator[str]:
    """A line in parts of at most `width` columns, broken behind spaces where that is possible."""
    begin, space, used = 0, 0, 0
    for i, character in enumerate(line):
        used += columns(character)
        if used > width and character != " ":
            cut = space if space > begin else i
            yield line[begin:cut]
            begin, used = cut, sum(map(columns, line[cut : i + 1]))
        if character == " ":
            space = i + 1
    yield line[begin:]


def columns(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


THOUGHTS = Wrapped(DIM, PLAIN)
UNWRAPPED = ("", "dumb")


def open_display(manner: Manner, *, plain: bool = False) -> Display:
    """Where the next answer appears: drawn on a terminal that can, unless it is to be `plain`; else as it comes."""
    terminal = sys.stdout.isatty()
    shown = manner.thinking and terminal
    if not terminal or os.environ.get("TERM", "") in UNWRAPPED:
        return Raw(thinking=shown)
    if manner.markdown and not plain and not os.environ.get("NO_COLOR"):
        from puna.cli.markdown import Markdown

        return Drawn(Markdown(), thinking=shown)
    return Drawn(Wrapped(), thinking=shown) if manner.wrap else Raw(thinking=shown)


def write(text: str) -> None:
    """A part of an answer to stdout, at once; OSError says where that failed."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "writing the answer") from error
