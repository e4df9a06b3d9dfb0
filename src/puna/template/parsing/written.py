"""How a format writes calls, as far as an answer with one call shows that a template made; none that is not read again.

<call>f<arg name="a">text</arg></call>  ->  <call>NAME , <arg name="KEY"> , </arg> , </call>
"""

import re
from collections.abc import Callable
from dataclasses import replace

from puna.template.message import ToolCall
from puna.template.parsing.format import Format, Reader, Section
from puna.template.parsing.functions import read_arguments, read_functions, read_invokes
from puna.template.parsing.python import read_python
from puna.template.parsing.style import KEY as KEY_HERE
from puna.template.parsing.style import PAIRS, PARAMETERS, PYTHON, Style, Tagged
from puna.template.parsing.tagged import TagParser
from puna.template.parsing.tools import Tools

NAME, KEY, VALUE = "probedcall", "probedkey", "probedvalue"
TOOL = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "",
        "parameters": {"type": "object", "properties": {KEY: {"type": "string", "description": ""}}, "required": [KEY]},
    },
}
_JSON = re.compile(rf'\{{\s*"{KEY}":\s*"{VALUE}"\s*\}}')
_KEYWORD = re.compile(rf"{KEY}\s*=\s*([\"']){VALUE}\1")
_PAIR = re.compile(rf"<[^<>]*{KEY}(?:(?!{VALUE}).)*{VALUE}\s*</[^<>]+>\s*", re.DOTALL)
_PAIR_OF_TAGS = re.compile(rf"<[^<>]*>\s*{KEY}(?:(?!{VALUE}).)*{VALUE}\s*</[^<>]+>\s*", re.DOTALL)
Found = tuple[re.Match[str] | None, Style | None]


def written(format: Format, answer: str) -> Format:
    """The format, with how it writes calls if the answer shows that, or if JSON with the tool's name is read in it."""
    section = format.sections[0] if format.sections else None
    return shown(format, answer) or (_read_again(_plain(format, section)) if section else None) or format


def shown(format: Format, answer: str) -> Format | None:
    """The format, with how the answer writes calls; None where it does not show that."""
    section = format.sections[0] if format.sections else None
    found = section and answer.count(NAME) == 1 and section.open in answer
    return _read_again(_cut(format, section, answer)) if section and found else None


def _read_again(format: Format | None) -> Format | None:
    """The format if it reads what it writes; of several calls too if it reads those on lines."""
    if not format or not format.writes or not _reads(format, 1):
        return None
    more = replace(format, again=f"{format.writes[1]}\n{format.writes[0]}")
    return more if _reads(more, 2) else format


def _cut(format: Format, section: Section, answer: str) -> Format | None:
    """The format as the answer writes, from the tag of its section to its end."""
    match, style = _STYLES.get(section.read, _json)(answer, section)
    if not match or answer.index(NAME) > match.start():
        return None
    begin, end = answer.index(section.open), match.end()
    closes = section.close and section.close in answer[end:]
    end = answer.index(section.close, end) + len(section.close) if closes else _closed(answer, end)
    writes = (answer[begin : match.start()].replace(NAME, "NAME"), answer[match.end() : end])
    return replace(format, writes=writes, style=style)


def _plain(format: Format, section: Section) -> Format | None:
    """What a reader of anything reads."""
    if section.read in _STYLES:
        return None
    listed = section.open == "["
    begin = "" if section.bare else section.open
    close = section.close if section.close.isprintable() else ""
    return replace(
        format,
        writes=(f'{begin}{"[" * listed}{{"name": "NAME", "arguments": ', f"}}{']' * listed}{close}"),
        style=None,
    )


def _json(answer: str, section: Section) -> Found:
    return _JSON.search(answer), None


def _pairs(answer: str, section: Section) -> Found:
    match = _PAIR_OF_TAGS.search(answer)
    return _tagged(match, PAIRS.never if match else (), section, trims=False)


def _parameters(answer: str, section: Section) -> Found:
    return _tagged(_PAIR.search(answer), PARAMETERS.never, section, trims=True)


def _invoked(answer: str, section: Section) -> Found:
    match = _PAIR.search(answer)
    close = re.match(r"</[^<>]+>", answer[match.end() :]) if match else None
    return _tagged(match, (close[0],) if close else (), section, trims=True)


def _tagged(match: re.Match[str] | None, never: tuple[str, ...], section: Section, *, trims: bool) -> Found:
    if not match:
        return None, None
    before, _, behind = match[0].replace(KEY, KEY_HERE).partition(VALUE)
    tags = {behind.strip(), section.close, *never}
    return match, Tagged(before, behind, tuple(sorted(tags)), trims=trims and not before.endswith("\n"))


def _keyword(answer: str, section: Section) -> Found:
    return _KEYWORD.search(answer), replace(PYTHON, never=(section.close,))


_STYLES: dict[Reader, Callable[[str, Section], Found]] = {
    read_arguments: _pairs,
    read_functions: _parameters,
    read_invokes: _invoked,
    read_python: _keyword,
}


def _closed(answer: str, end: int) -> int:
    """Where the brackets end that begin there."""
    text = answer[end:]
    return end + (len(text) - len(text.lstrip("}] \n")) if text.strip("}] \n") else len(text.rstrip()))


def _reads(format: Format, count: int) -> bool:
    """Whether so many calls that are written as it says are read."""
    before, behind = format.call_around(NAME) or ("", "")
    arguments = format.style.example((KEY,)) if format.style else f'{{"{KEY}": "{VALUE}"}}'
    again = format.again.replace("NAME", NAME)
    parser = TagParser(format, tools=Tools([TOOL]), think=False, last_message=None)
    deltas = [parser.push(before + again.join([arguments] * count) + behind), parser.close()]
    found: list[ToolCall] = [call for delta in deltas for call in delta.tool_calls]
    return [(call.name, list(call.arguments)) for call in found] == [(NAME, [KEY])] * count
