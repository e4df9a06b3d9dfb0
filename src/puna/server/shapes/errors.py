"""What errors of each API hold, for the OpenAPI document."""

from __future__ import annotations

from msgspec import Struct


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
