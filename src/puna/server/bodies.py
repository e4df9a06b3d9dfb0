"""Bodies of requests in their types; what is wrong with one is said in words of JSON, with its place where known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from puna.server.errors import Refused

Decode = Callable[[bytes], Any]
_EXPECTED = re.compile(r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<given>[^`]+)`)?(?: - at `(?P<place>[^`]+)`)?")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`(?: - at `(?P<place>[^`]+)`)?")
_KINDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "a list",
}


def decoder_of(reads: type) -> Decode:
    """The function that reads bodies of a type, in which a field that is null is one that is not given."""
    decode: Decode = msgspec.json.Decoder(reads).decode

    def read(body: bytes) -> Any:
        try:
            return decode(body)
        except msgspec.ValidationError:
            fields = msgspec.json.decode(body)
            if not isinstance(fields, dict) or None not in fields.values():
                raise
            return msgspec.convert({name: value for name, value in fields.items() if value is not None}, reads)

    return read


def decoded(decode: Decode, body: bytes) -> Any:
    """The body in its type; Refused where it is not such."""
    if not body.strip():
        raise Refused(400, "missing request body")
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise Refused(400, f"reading the request: {unfit(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"reading the request: {broken(body)}") from error


def unfit(message: str) -> str:
    """What msgspec says of a value of the wrong type, in words of JSON."""
    if found := _MISSING.match(message):
        return f"{_place(found['place'])}{found['name']!r} is missing; it is required"
    if not (found := _EXPECTED.match(message)):
        return message
    wanted = " or ".join(_KINDS.get(kind.strip(), kind.strip()) for kind in found["wanted"].split("|"))
    given = f" is {_KINDS.get(found['given'], found['given'])}" if found["given"] else " has another value"
    return f"{_place(found['place']).rstrip(': ') or 'the body'}{given}; {wanted} would work"


def broken(body: bytes) -> str:
    """Why a body is no JSON, and where."""
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        if not body[error.pos :].strip():
            return f"the JSON ends in its midst, after {len(body)} bytes ({error.msg}); send all of it"
        return f"the body is no JSON: {error.msg} (line {error.lineno}, column {error.colno})"
    except UnicodeDecodeError as error:
        return f"the body is no JSON: byte {error.start} is not UTF-8"
    except RecursionError:
        return "the JSON is nested too deeply; fewer levels would work"
    return "the body is no JSON that can be read"


def _place(place: str | None) -> str:
    inner = (place or "").removeprefix("$").removeprefix(".").replace("[...]", "[]")
    return f"{inner}: " if inner else ""
