"""Gemma's tool calls: names without quotes, and strings between marks of their own.

call:f{a:1,b:<|"|>text<|"|>,c:[true,{d:null}]}        FunctionGemma's mark is <escape>
"""

import json
import re
from typing import Any

from puna.template.message import ToolCall
from puna.template.parsing.format import Reader
from puna.template.parsing.tools import Tools

_CALL = re.compile(r"\s*call:\s*([^{]*?)\s*(?=\{)")
_KEY = re.compile(r"\s*\"?([\w.\-]+)\"?\s*:")
_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
_WORD = re.compile(r"-?\d[\d.eE+-]*|true|false|null")
_NEXT = re.compile(r",\s*(\w+)\s*:")


def read_braces(mark: str) -> Reader:
    """A reader of calls whose strings stand between `mark`s; what models often get wrong is made up for."""

    def read(body: str, tools: Tools) -> list[ToolCall | str]:
        match = _CALL.match(body)
        if not match or not match[1]:
            raise ValueError(f"{body!r:.80} is no call")
        cursor = _Arguments(body.rstrip(), match.end(), mark, match[1], tools)
        return [ToolCall(match[1], cursor.read())]

    return read


class _Arguments:
    """A cursor over the arguments of a call of `name`; what does not fit raises ValueError."""

    def __init__(self, text: str, at: int, mark: str, name: str, tools: Tools) -> None:
        self.text, self.at, self.mark, self.name, self.tools = text, at, mark, name, tools

    def read(self) -> dict[str, Any]:
        arguments = self._object(top=True)
        if self.text[self.at :].strip():
            raise ValueError(f"{self.text[self.at :]!r:.60} is not expected")
        return arguments

    def _object(self, top: bool = False) -> dict[str, Any]:
        values: dict[str, Any] = {}
        self._take("{")
        while not self._taken("}"):
            match = _KEY.match(self.text, self.at)
            if not match:
                raise ValueError(f"{self.text[self.at :]!r:.60} is no key")
            self.at = match.end()
            values[match[1]] = self._value(match[1] if top else None)
            if not self._taken(","):
                if not (top and self.at == len(self.text)):  # cut off where the call would end anyway
                    self._take("}")
                break
        return values

    def _value(self, key: str | None) -> Any:
        """A value; `key` is the argument's name at the top, where the schema says what a bare text is."""
        begin = self.at
        self._space()
        if self.text.startswith("{", self.at):
            return self._object()
        if self._taken("["):
            return self._list()
        if self.text.startswith(self.mark, self.at):
            return self._marked()
        if match := _QUOTED.match(self.text, self.at):
            self.at = match.end()
            if self.text.startswith(self.mark, self.at):  # closed twice
                self.at += len(self.mark)
            return _unescaped(match)
        if (match := _WORD.match(self.text, self.at)) and re.match(r"\s*(?:[,\]}]|$)", self.text[match.end() :]):
            self.at = match.end()
            return json.loads(match[0])
        if key is not None and "string" in self.tools.types(self.name, key):
            self.at = begin
            return self._bare()
        raise ValueError(f"{self.text[self.at :]!r:.60} is no value")

    def _marked(self) -> str:
        begin = self.at + len(self.mark)
        end = self.text.find(self.mark, begin)
        if end < 0:  # never closed: it is the last value
            end = len(self.text.removesuffix("}"))
            self.at = end
        else:
            self.at = end + len(self.mark)
        return self.text[begin:end]

    def _bare(self) -> str:
        """A text without any mark, to the next argument that the tool has, or to the end."""
        begin = self.at
        ends = (m.start() for m in _NEXT.finditer(self.text, begin) if self.tools.has(self.name, m[1]))
        self.at = next(ends, len(self.text.removesuffix("}")))
        return self.text[begin : self.at]

    def _list(self) -> list[Any]:
        values = []
        while not self._taken("]"):
            values.append(self._value(None))
            if not self._taken(","):
                self._take("]")
                break
        return values

    def _space(self) -> None:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing at least

    def _taken(self, character: str) -> bool:
        at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        if not self.text.startswith(character, at):
            return False
        self.at = at + 1
        return True

    def _take(self, character: str) -> None:
        if not self._taken(character):
            raise ValueError(f"{character} is expected, not {self.text[self.at :]!r:.60}")


def _unescaped(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[2]
    try:
        return str(json.loads(match[0], strict=False))
    except ValueError:
        return match[1]
