"""What answers of OpenAI's API hold, for the OpenAPI document."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from puna.server.shapes.shape import Json, Usage


class CompletionAnswer(Struct):
    """An answer of OpenAI's API, or a chunk of one."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Json]
    usage: Json | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class CompletionsAnswer(Struct):
    """A page of stored answers."""

    object: str
    data: list[CompletionAnswer]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Vector(Struct):
    """A vector as numbers, or as base64 of little-endian float32."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(Struct):
    """A vector for each text."""

    object: str
    data: list[Vector]
    model: str
    usage: Usage


class ModelsAnswer(Struct):
    """Models in the form of whose client asks."""

    data: list[Json]


class ModelAnswer(Struct):
    """A model in the form of whose client asks."""

    id: str


class ResponseAnswer(Struct):
    """A response of OpenAI's API."""

    id: str
    object: str
    status: str
    model: str
    output: list[Json]


class InputTokensAnswer(Struct):
    """Tokens of a request for a response."""

    object: str
    input_tokens: int


class ItemsAnswer(Struct):
    """A page of what led to an answer."""

    object: str
    data: list[Json]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedAnswer(Struct):
    """What was deleted."""

    id: str
    object: str
    deleted: bool
