"""Pieces of an answer, and figures of one generation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one generation; seconds of the prompt run from submission to the first token.

    `load_seconds` of the first answer is how long the model took until it was ready, which may have gone on while the
    prompt was typed or became tokens; of others, how long they waited: next to nothing. `dropped_tokens` made room for
    others when the context was full and shifted. `proposed_tokens` were computed before it was known that they come,
    and the `accepted_tokens` of them did. Of a prediction's `predicted_tokens` the `foretold_tokens` came.
    """

    load_seconds: float
    prompt_tokens: int
    cached_tokens: int
    prompt_seconds: float
    tokens: int
    seconds: float
    dropped_tokens: int = 0
    proposed_tokens: int = 0
    accepted_tokens: int = 0
    predicted_tokens: int = 0
    foretold_tokens: int = 0

    @property
    def prompt_rate(self) -> float:
        """Prompt tokens computed a second."""
        return (self.prompt_tokens - self.cached_tokens) / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def rate(self) -> float:
        """Tokens a second after the first."""
        return (self.tokens - 1) / self.seconds if self.seconds and self.tokens > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token with the natural logarithm of its probability; `top` are the best candidates in its place.

    `spelling` are its bytes, of which `text` shows the whole characters.
    """

    token: int
    text: str
    logprob: float
    top: tuple[Logprob, ...] = ()
    spelling: bytes = b""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer; `text` is its content, and calls are `puna.template.ToolCall`s.

    The last one is `done`, with the reason ("stop" or "length"), the stop string if one was met, and the figures.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    thinking: str = ""
    tool_calls: tuple[Any, ...] = ()
    done: bool = False
    done_reason: str | None = None
    stats: Stats | None = None
    stop: str | None = None

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        """Only what differs from an empty chunk."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        return f"Chunk({', '.join(f'{name}={value!r}' for name, value in given.items())})"
