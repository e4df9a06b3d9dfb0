"""What an endpoint gives, for the OpenAPI document: the type of its JSON, and other kinds of body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import Struct

Json = dict[str, Any]
NDJSON, SSE, TEXT = "application/x-ndjson", "text/event-stream", "text/plain"


class Usage(Struct):
    """Tokens that were read, and all."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Shape:
    """`json`: the type of a JSON body, None where there is none; `others`: media types of other bodies; `statuses`: of
    success."""

    json: type | None = None
    others: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200,)


NOTHING = Shape()
