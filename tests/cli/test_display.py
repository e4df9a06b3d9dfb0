"""How answers appear on a terminal, as a small screen shows what is written to it."""

import re

import pytest

from puna.cli import display as module
from puna.cli.display import Drawn, Manner, Page, Raw, Wrapped, open_display, wrapped
from puna.cli.markdown import Markdown


class Screen:
    """A terminal without an end at the bottom; lines more than `height` above the last one are out of reach."""

    def __init__(self, height=1000):
        self.lines, self.row, self.column, self.height, self.written = [""], 0, 0, height, []

    def __call__(self, text):
        self.written.append(text)
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|\x1b\[[\d;]*m|\n|\r|[^\x1b\n\r]+", text):
            self._put(part)

    def _put(self, part):
        if part == "\n":
            self.row, self.column = self.row + 1, 0
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif part == "\r":
            self.column = 0
        elif part.endswith("A") and part.startswith("\x1b"):
            self.row -= int(part[2:-1])
            assert self.row >= len(self.lines) - self.height
        elif part == "\x1b[J":
            self.lines[self.row] = self.lines[self.row][: self.column]
            del self.lines[self.row + 1 :]
        elif not part.startswith("\x1b"):
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
            self.column += len(part)

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.lines)


@pytest.fixture(autouse=True)
def size(monkeypatch):
    monkeypatch.setenv("COLUMNS", "41")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setattr(module, "SHARE", 0)  # every piece is drawn


def drawn(text, lines, piece=1, height=1000):
    screen = Screen(height)
    page = Page(lines, screen)
    for i in range(0, len(text), piece):
        page.push(text[i : i + piece])
    page.end()
    return screen


PROSE = """\
The quick brown fox jumps over the lazy dog, again and again.

And a word thatislongerthanthewholelineoftheterminal ends."""
FOLDED = """\
The quick brown fox jumps over the lazy
dog, again and again.

And a word
thatislongerthanthewholelineofthetermina
l ends."""


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_lines_are_broken_between_words(piece):
    assert drawn(PROSE, Wrapped(), piece).text == FOLDED


def test_wide_characters_take_two_columns():
    assert list(wrapped("\u65e5" * 5, 6)) == ["\u65e5" * 3, "\u65e5" * 2]
    assert list(wrapped("e\u0301" * 6, 6)) == ["e\u0301" * 6]


def test_what_only_grows_is_written_once():
    screen = drawn("abc def\nghi", Wrapped())
    assert "".join(screen.written) == "abc def\nghi"


DOCUMENT = """\
# Title

Some *emphasis* and `code` in a paragraph that is longer than one line of it.

1. one
2. two
   - inner

```python
def f(x):
    return x  # a comment
```

| a | b |
|---|---|
| 1 | twenty |

> quoted

The end."""
PAGE = """\
Title

Some emphasis and code in a paragraph
that is longer than one line of it.

 1 one
 2 two
    \u2022 inner

  def f(x):
      return x  # a comment

 a  b
 \u2500\u2500\u2500\u2500\u2500\u2500\u2500\u2500\u2500
 1  twenty

\u258c quoted

The end."""


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_markdown_is_drawn_the_same_however_it_comes(piece):
    assert drawn(DOCUMENT, Markdown(), piece).text == PAGE


def test_lines_that_have_scrolled_away_are_not_written_again():
    code = "```\n" + "".join(f"line {i}\n" for i in range(100)) + "```\n"
    screen = drawn(code, Markdown(), 5, height=30)
    assert [line.strip() for line in screen.text.split("\n")] == [f"line {i}" for i in range(100)]


def test_what_a_terminal_would_obey_is_left_out():
    assert "\x1b]" not in "".join(drawn("a\x1b]0;title\x07b\x9bc", Markdown()).written)
    assert drawn("a\x1b[2Jb\tc", Wrapped()).text == "a[2Jb    c"


def test_thoughts_are_dimmed_lines_above_the_answer(capsys):
    page = Drawn(Wrapped(), thinking=True)
    page.think("hm")
    page.think("m")
    page.say("so")
    page.end()
    screen = Screen()
    screen(capsys.readouterr().out)
    assert screen.text == "hmm\n\nso"
    hidden = Drawn(Wrapped(), thinking=False)
    hidden.think("hm")
    hidden.say("so")
    hidden.end()
    assert capsys.readouterr().out == "so"


@pytest.mark.parametrize(
    ("terminal", "environ", "manner", "plain", "kind"),
    [
        (True, {}, Manner(), False, Markdown),
        (True, {}, Manner(), True, Wrapped),
        (True, {"NO_COLOR": "1"}, Manner(), False, Wrapped),
        (True, {}, Manner(markdown=False), False, Wrapped),
        (True, {}, Manner(markdown=False, wrap=False), False, None),
        (True, {"TERM": "dumb"}, Manner(), False, None),
        (False, {}, Manner(), False, None),
    ],
)
def test_only_a_terminal_that_can_is_drawn_on(monkeypatch, terminal, environ, manner, plain, kind):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = open_display(manner, plain=plain)
    assert isinstance(found, Raw) if kind is None else isinstance(found._lines, kind)
