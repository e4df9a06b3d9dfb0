"""What answers of Anthropic's API hold, for the OpenAPI document."""

from __future__ import annotations

from msgspec import Struct

from puna.server.shapes.shape import Json


class MessageAnswer(Struct):
    """An answer of Anthropic's API."""

    id: str
    type: str
    role: str
    model: str
    content: list[Json]
    stop_reason: str | None
    usage: Json


class CountAnswer(Struct):
    """Tokens of a request."""

    input_tokens: int
