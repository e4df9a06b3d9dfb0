"""Tool calls written as in Python.

[f(a=1, b='x'), g()]        f(a=1) <newline> g()
"""

import json
import re
from typing import Any

from puna.template.message import ToolCall
from puna.template.parsing.format import NEVER
from puna.template.parsing.tools import Tools

_NAME = re.compile(r"[^\W\d][\w.\-]*")
_SPACE = re.compile(r"\s*")
_SEPARATORS = re.compile(r"[\s,;]*")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_WORD = re.compile(r"[^\s,()\[\]{}:=]+")
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def read_python(body: str, tools: Tools) -> list[ToolCall | str]:
    """Calls in brackets, on lines or after one another; escapes in strings mean what they do in Python."""
    return _Calls(body, escapes=True).read()


def read_python_raw(body: str, tools: Tools) -> list[ToolCall | str]:
    """As `read_python`, but a backslash stands for itself, as in LFM2's; a repeated opening tag is passed over."""
    while body.lstrip().startswith("<|tool_call_start|>"):
        body = body.lstrip().removeprefix("<|tool_call_start|>")
    return _Calls(body, escapes=False).read()


def end_of_python(body: str, final: bool) -> int | None:
    """Where a list of calls without tags ends; NEVER where no call begins it."""
    if re.match(r"\[\s*[^\s\w]", body) or re.match(r"\[\s*\w[\w.\-]*\s*[^\s\w.\-(]", body):
        return NEVER
    depth, at = 0, 0
    for match in re.finditer(rf"{_QUOTED.pattern}|[\[\]]|['\"]", body):
        if match[0] in "'\"":
            return None  # a string that goes on
        depth += (match[0] == "[") - (match[0] == "]")
        at = match.end()
        if depth == 0:
            return at
    return None


class _Calls:
    """A cursor over a text of calls; what does not fit raises ValueError."""

    def __init__(self, text: str, *, escapes: bool) -> None:
        self.text = text.strip()
        self.at = 0
        self.escapes = escapes

    def read(self) -> list[ToolCall | str]:
        if self.text.startswith("[") and self.text.endswith("]"):
            self.text = self.text[1:-1].strip()
        calls: list[ToolCall | str] = []
        while self.at < len(self.text):
            calls.append(self._call())
            self._match(_SEPARATORS)
        if not calls:
            raise ValueError("no call")
        return calls

    def _call(self) -> ToolCall:
        name = self._match(_NAME)
        self._take("(")
        arguments = {}
        while not self._taken(")"):
            key = self._match(_NAME)
            self._take("=")
            arguments[key] = self._value()
            if not self._taken(","):
                self._take(")")
                break
        return ToolCall(name, arguments)

    def _value(self) -> Any:
        if self._taken("["):
            return self._list()
        if self._taken("{"):
            return self._dict()
        if match := _QUOTED.match(self.text, self.at):
            self.at = match.end()
            text = match[1] if match[1] is not None else match[2]
            return _ESCAPED.sub(lambda m: _ESCAPES.get(m[1], m[1]), text) if self.escapes else text
        word = self._match(_WORD)
        if word.lower() in _WORDS:
            return _WORDS[word.lower()]
        try:
            return json.loads(word)
        except ValueError:
            return word

    def _list(self) -> list[Any]:
        values = []
        while not self._taken("]"):
            values.append(self._value())
            if not self._taken(","):
                self._take("]")
                break
        return values

    def _dict(self) -> dict[str, Any]:
        values = {}
        while not self._taken("}"):
            self._match(_SPACE)
            key = self._value()
            self._take(":")
            values[str(key)] = self._value()
            if not self._taken(","):
                self._take("}")
                break
        return values

    def _match(self, pattern: re.Pattern[str]) -> str:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing at least
        match = pattern.match(self.text, self.at)
        if not match:
            raise ValueError(f"{self.text[self.at :]!r:.60} is not expected")
        self.at = match.end()
        return match[0]

    def _taken(self, character: str) -> bool:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        found = self.text.startswith(character, self.at)
        if found:
            self.at = _SPACE.match(self.text, self.at + 1).end()  # type: ignore[union-attr]
        return found

    def _take(self, character: str) -> None:
        if not self._taken(character):
            raise ValueError(f"{character} is expected, not {self.text[self.at :]!r:.60}")
