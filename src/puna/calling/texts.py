"""What texts may be, as lexemes of a Lark grammar: any, by a pattern, by a format, by their length."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from puna.calling.rules import Unheld
from puna.calling.schema import Schema

ANY = "/(?s:.*)/"
_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9\-]{0,30}[a-zA-Z0-9])?"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": r"P(?:[0-9]{1,6}W|[0-9]{1,6}D(?:T[0-9]{1,6}[HMS])?|[0-9]{1,6}[YM]|T[0-9]{1,6}[HMS])",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "hostname": rf"{_LABEL}(?:\.{_LABEL}){{0,5}}",
    "email": rf"[a-zA-Z0-9_+\-]{{1,32}}(?:\.[a-zA-Z0-9_+\-]{{1,32}}){{0,3}}@{_LABEL}(?:\.{_LABEL}){{1,5}}",
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "ipv6": r"(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}",
    "uri": r"[a-z][a-z0-9+.\-]{0,15}:\/\/[a-zA-Z0-9.\-]{1,64}(?::[0-9]{1,5})?"
    r"(?:\/[a-zA-Z0-9._~%!$&'()*+,;=:@\-]{0,64}){0,16}(?:\?[a-zA-Z0-9._~%!$&'()*+,;=:@\/?\-]{0,128})?",
}
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)


def text_of(schema: Schema) -> str:
    """What a text by a schema may be."""
    parts = [_pattern(schema["pattern"])] if "pattern" in schema else []
    if name := schema.get("format"):
        if name not in FORMATS:
            raise Unheld(f"'format' {name!r} is unknown; {', '.join(FORMATS)} would work")
        parts.append(f"/{FORMATS[name]}/")
    if limits := limits_of(schema, "Length"):
        parts.append(f"/(?s:.){limits}/")
    return f"({' & '.join(parts)})" if parts else ANY


def limits_of(schema: Schema, what: str) -> str:
    """How many of something there may be, as regular expressions have it; empty if as many as one likes."""
    low, high = schema.get(f"min{what}", 0), schema.get(f"max{what}")
    return f"{{{low},{'' if high is None else high}}}" if low or high is not None else ""


def without(text: str, tags: Sequence[str]) -> str:
    """Of a text, what has none of these in it."""
    return f"({text} & {ANY} & ~/(?s:.*)(?:{'|'.join(map(escaped, tags))})(?s:.*)/)" if tags else text


def escaped(text: str) -> str:
    """A text as a regular expression between slashes."""
    return "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def literal(text: str) -> str:
    """A text as Lark has it."""
    return json.dumps(text, ensure_ascii=False)


def _pattern(pattern: str) -> str:
    """A pattern, which may be found anywhere where it does not say `^` or `$`."""
    choices, depth = [""], 0
    for token in _TOKEN.findall(pattern):
        depth += (token == "(") - (token == ")")
        if token == "|" and depth == 0:
            choices.append("")
            continue
        choices[-1] += {"/": r"\/", "\n": r"\n"}.get(token, token.replace("\n", r"\n"))
    return f"/{'|'.join(map(_anywhere, choices))}/"


def _anywhere(choice: str) -> str:
    begins, ends = choice.startswith("^"), bool(re.search(r"(?<!\\)(?:\\\\)*\$$", choice))
    inner = choice[begins : len(choice) - ends]
    return f"{'' if begins else '(?s:.*)'}(?:{inner}){'' if ends else '(?s:.*)'}"
