"""What answers hold, for the OpenAPI document alone: the type of each endpoint's JSON, and other kinds of body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from puna.server.prefixes import NAME

Json = dict[str, Any]
NDJSON, SSE, TEXT = "application/x-ndjson", "text/event-stream", "text/plain"


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


class TokensAnswer(Struct):
    """Token ids, and the text of each."""

    tokens: list[int]
    pieces: list[str] | UnsetType = UNSET


class TextAnswer(Struct):
    """The text of tokens."""

    text: str


class PromptAnswer(Struct):
    """A prompt and its tokens."""

    prompt: str
    tokens: list[int]
    count: int


class Usage(Struct):
    """Tokens that were read, and all."""

    prompt_tokens: int
    total_tokens: int


class Ranked(Struct):
    """A document's score."""

    index: int
    relevance_score: float
    document: dict[str, str] | UnsetType = UNSET


class RankingAnswer(Struct):
    """Documents, the best first."""

    id: str
    object: str
    model: str
    results: list[Ranked]
    usage: Usage


class DecisionAnswer(Struct):
    """A decision, and how probable each choice was."""

    model: str
    value: str | bool | float
    choice: str
    probabilities: dict[str, float]
    mass: float


class HealthAnswer(Struct):
    """That the server answers."""

    status: str
    models: list[str]


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


class OllamaError(Struct):
    """What went wrong."""

    error: str


class OpenaiProblem(Struct):
    """What went wrong, and of what kind that is."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenaiError(Struct):
    """What went wrong."""

    error: OpenaiProblem


class AnthropicProblem(Struct):
    """What went wrong, and of what kind that is."""

    type: str
    message: str


class AnthropicError(Struct):
    """What went wrong."""

    type: str
    error: AnthropicProblem


ERRORS: dict[str, type] = {"ollama": OllamaError, "openai": OpenaiError, "anthropic": AnthropicError}
"""By API."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`json`: the type of a JSON body, None where there is none; `others`: media types of other bodies; `statuses`: of
    success."""

    json: type | None = None
    others: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200,)


SHAPES: dict[str, Shape] = {
    "POST /api/chat": Shape(ChatAnswer, (NDJSON,)),
    "POST /api/generate": Shape(GenerateAnswer, (NDJSON,)),
    "POST /api/embed": Shape(EmbedAnswer),
    "POST /api/embeddings": Shape(EmbeddingAnswer),
    "GET /": Shape(others=(TEXT,)),
    "GET /api/version": Shape(VersionAnswer),
    "GET /api/tags": Shape(TagsAnswer),
    "GET /api/ps": Shape(TagsAnswer),
    "POST /api/show": Shape(ShowAnswer),
    "POST /api/copy": Shape(),
    "DELETE /api/delete": Shape(),
    "POST /api/create": Shape(StatusAnswer, (NDJSON,)),
    "POST /api/pull": Shape(StatusAnswer, (NDJSON,)),
    "POST /api/push": Shape(StatusAnswer, (NDJSON,)),
    "HEAD /api/blobs/{digest}": Shape(),
    "POST /api/blobs/{digest}": Shape(statuses=(200, 201)),
    "POST /api/tokenize": Shape(TokensAnswer),
    "POST /api/detokenize": Shape(TextAnswer),
    "POST /api/apply-template": Shape(PromptAnswer),
    "POST /api/rerank": Shape(RankingAnswer),
    "POST /rerank": Shape(RankingAnswer),
    "POST /v1/rerank": Shape(RankingAnswer),
    "POST /v2/rerank": Shape(RankingAnswer),
    "POST /api/decide": Shape(DecisionAnswer),
    "GET /health": Shape(HealthAnswer),
    "GET /metrics": Shape(others=(TEXT,)),
    "GET /openapi.json": Shape(dict),
    "POST /v1/chat/completions": Shape(CompletionAnswer, (SSE,)),
    "GET /v1/chat/completions": Shape(CompletionsAnswer),
    "GET /v1/chat/completions/{completion}": Shape(CompletionAnswer),
    "POST /v1/chat/completions/{completion}": Shape(CompletionAnswer),
    "DELETE /v1/chat/completions/{completion}": Shape(DeletedAnswer),
    "GET /v1/chat/completions/{completion}/messages": Shape(ItemsAnswer),
    "POST /v1/completions": Shape(CompletionAnswer, (SSE,)),
    "POST /v1/embeddings": Shape(EmbeddingsAnswer),
    "GET /v1/models": Shape(ModelsAnswer),
    "GET /v1/models/{model}": Shape(ModelAnswer),
    "POST /v1/responses": Shape(ResponseAnswer, (SSE,)),
    "POST /v1/responses/input_tokens": Shape(InputTokensAnswer),
    "GET /v1/responses/{response}": Shape(ResponseAnswer),
    "GET /v1/responses/{response}/input_items": Shape(ItemsAnswer),
    "DELETE /v1/responses/{response}": Shape(DeletedAnswer),
    "POST /v1/messages": Shape(MessageAnswer, (SSE,)),
    "POST /v1/messages/count_tokens": Shape(CountAnswer),
    "GET /api/prefixes": Shape(dict),
    "PUT /api/prefixes/{name}": Shape(dict),
    "POST /api/prefixes/{name}/load": Shape(dict),
    "DELETE /api/prefixes/{name}": Shape(),
}
"""By method and path; what is not here may have any body."""

PATTERNS = {"digest": "^sha256[:-][0-9a-f]{64}$", "name": f"^{NAME.pattern}$"}
"""What fits in a path's place, by its name."""
