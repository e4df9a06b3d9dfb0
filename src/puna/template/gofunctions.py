"""The functions of Go templates that make text, bounded: Go's print family and escapes, and the four that Ollama adds.

`gotpl` has the print family too, but without a limit on the size of what a template builds up by doubling.
"""

import datetime
import functools
import math
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from urllib.parse import quote_plus

from gotpl import TemplateExecutionError
from gotpl.runtime.gofmt import sprintf

from puna.template import govalues

MAX_TEXT = 16_000_000
MAX_QUOTED = 1_000_000  # quoting is slow
MAX_WIDTH = 10_000
MAX_SECONDS = 5.0  # of the rendering thread's own time
STEP = "_step"  # a function that makes no text; `define` bodies begin with it, so that calls without end are seen
_VERB = re.compile(r"%[^%a-zA-Z]*")
_HTML = str.maketrans({"\x00": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_JS = {c: f"\\u{c:04X}" for c in (*range(0x20), 0x2028, 0x2029, *map(ord, "<>&="))}
_JS |= {ord(c): "\\" + c for c in "\\'\""}


_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


def start_clock() -> None:
    """Gives the render that begins in this context its time."""
    _deadline.set(time.thread_time() + MAX_SECONDS)


def _bounded(function: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(function)
    def bounded(*arguments: object) -> str:
        if time.thread_time() > _deadline.get():
            raise TemplateExecutionError(f"rendering takes more than {MAX_SECONDS:g} seconds; loop less")
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
    if re.search(r"%[^%a-zA-Z]*[qxX]", template) and sum(len(v) for v in values if isinstance(v, str)) > MAX_QUOTED:
        raise TemplateExecutionError(f"printf {template!r:.60} quotes more than {MAX_QUOTED} characters")
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
    STEP: _bounded(lambda: ""),
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
