"""What answers of Ollama's API hold, for the OpenAPI document."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from puna.server.shapes.shape import Json


class ChatAnswer(Struct):
    """A line of an answer, or all of it."""

    model: str
    created_at: str
    message: Json | UnsetType = UNSET
    done: bool | UnsetType = UNSET
    done_reason: str | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET


class GenerateAnswer(Struct):
    """A line of an answer, or all of it."""

    model: str
    created_at: str
    response: str | UnsetType = UNSET
    done: bool | UnsetType = UNSET
    done_reason: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET


class EmbedAnswer(Struct):
    """A vector for each text."""

    model: str
    embeddings: list[list[float]]
    total_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET


class EmbeddingAnswer(Struct):
    """One vector."""

    embedding: list[float]


class VersionAnswer(Struct):
    """The version of the server."""

    version: str


class ListedModel(Struct):
    """A model in the store, or one that is loaded."""

    name: str
    model: str
    size: int
    digest: str
    details: Json


class TagsAnswer(Struct):
    """Models."""

    models: list[ListedModel]


class ShowAnswer(Struct):
    """What a model is made of."""

    details: Json
    model_info: Json
    capabilities: list[str]


class StatusAnswer(Struct):
    """A line of how far something is, or how it ended."""

    status: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
