"""The functions of Go templates that make text, bounded: Go's print family and escapes, and the four that Ollama adds.

`gotpl` has the print family too, but without a limit on the size of what a template builds up by doubling.
"""

import datetime
import functools
import re
from collections.abc import Callable
from urllib.parse import quote_plus

from gotpl import TemplateExecutionError
from gotpl.runtime.gofmt import sprintf

from puna.template import govalues

MAX_TEXT = 16_000_000
MAX_WIDTH = 10_000
_VERB = re.compile(r"%[^%a-zA-Z]*")
_HTML = str.maketrans({"\x00": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JS = {c: f"\\u{c:04X}" for c in (*range(0x20), 0x2028, 0x2029, *map(ord, "<>&="))}
_JS |= {ord(c): "\\" + c for c in "\\'\""}


def _bounded(function: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(function)
    def bounded(*arguments: object) -> str:
        text = function(*arguments)
        if len(text) > MAX_TEXT:
            raise TemplateExecutionError(f"text grows past {MAX_TEXT} characters; print less")
        return text

    return bounded


@_bounded
def _printf(template: str, *values: object) -> str:
    numbers = [int(n) for verb in _VERB.findall(template) for n in re.findall(r"\d+", verb)]
    if "*" in template:
        numbers += [v for v in values if isinstance(v, int)]
    if any(abs(n) > MAX_WIDTH for n in numbers):
        raise TemplateExecutionError(f"printf {template!r:.60} asks for a width of {max(numbers)}; at most {MAX_WIDTH}")
    return sprintf(template, *values)


@_bounded
def _print(*values: object) -> str:
    text = ""
    for i, value in enumerate(values):
        spaced = i and not isinstance(value, str) and not isinstance(values[i - 1], str)
        text += (" " if spaced else "") + sprintf("%v", value)
    return text


def _println(*values: object) -> str:
    return " ".join(sprintf("%v", value) for value in values) + "\n"


def _slice(value: object, start: int = 0, stop: int | None = None) -> object:
    """Go's `slice`, for the list of tools too; text is cut by bytes."""
    if not isinstance(value, str | list | govalues.Tools):
        raise TemplateExecutionError(f"slice: {type(value).__name__} is neither a list nor text")
    whole = value.encode() if isinstance(value, str) else value
    stop = len(whole) if stop is None else stop
    if not 0 <= start <= stop <= len(whole):
        raise TemplateExecutionError(f"slice: {start}:{stop} is outside a length of {len(whole)}")
    part = whole[start:stop]
    return part.decode(errors="replace") if isinstance(part, bytes) else part


def _day(days_ago: int) -> str:
    return (datetime.date.today() - datetime.timedelta(days_ago)).isoformat()


FUNCTIONS: dict[str, Callable[..., object]] = {
    "print": _print,
    "printf": _printf,
    "println": _bounded(_println),
    "slice": _slice,
    "html": _bounded(lambda *values: _print(*values).translate(_HTML)),
    "js": _bounded(lambda *values: _print(*values).translate(_JS)),
    "urlquery": _bounded(lambda *values: quote_plus(_print(*values))),
    "json": _bounded(govalues.to_json),
    "currentDate": lambda: _day(0),
    "yesterdayDate": lambda: _day(1),
    "toTypeScriptType": govalues.to_typescript_type,
}
