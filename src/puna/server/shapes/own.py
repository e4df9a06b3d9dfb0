"""What answers of Puna's own endpoints hold, for the OpenAPI document."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from puna.server.shapes.shape import Usage


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
