"""Lengths of time as Ollama's API writes them: seconds, or Go's texts such as "1h30m" and "1500ms"."""

from __future__ import annotations

import math
import re

from puna.errors import RequestError

FOREVER = math.inf
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_WHOLE = re.compile(rf"[+-]?(?:{_PART.pattern})+")


def parse_duration(value: object) -> float:
    """Seconds; anything below 0 is FOREVER. RequestError for what is no length of time."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value):
        return FOREVER if value < 0 else float(value)
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"[+-]?\d+(\.\d+)?", text):
            return parse_duration(float(text))
        if _WHOLE.fullmatch(text):
            seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
            return FOREVER if text.startswith("-") else seconds
    raise RequestError(f'{value!r} is no length of time; seconds, or a text such as "5m" or "1h30m", would work')
