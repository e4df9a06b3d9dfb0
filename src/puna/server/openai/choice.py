"""The answers of completions while they come: what was said, by each, and what it took."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec.structs import replace
from starlette.responses import Response

from puna.generation import Chunk, Logprob, Stats
from puna.server.choices import side_by_side
from puna.server.endpoints import Call
from puna.server.errors import message_of, openai_body, status_of
from puna.server.ollama.answers import tool_call
from puna.server.openai.requests import Sampled
from puna.server.wire import Event, begun, sse
from puna.worker.protocol import Prompted
from puna.worker.requests import Chat, Generate

Ask = TypeVar("Ask", Chat, Generate)
Pieces = AsyncGenerator[tuple[int, Prompted | Chunk], None]
FINGERPRINT = "fp_puna"
DONE: Event = (None, "[DONE]")


@dataclass(slots=True)
class Choice:
    """One answer while it comes."""

    text: str = ""
    thinking: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    reason: str = "stop"
    stats: Stats | None = None
    begun: bool = False
    thought: int = 0  # tokens of thinking

    def take(self, chunk: Chunk) -> list[dict[str, Any]]:
        """Note a piece; the calls in it, in OpenAI's form."""
        calls = [openai_call(tool_call(each, len(self.calls) + i)) for i, each in enumerate(chunk.tool_calls)]
        self.text += chunk.text
        self.thinking += chunk.thinking
        self.thought += len(chunk.tokens) if chunk.thinking and not chunk.text else 0
        self.logprobs += chunk.logprobs
        self.calls += calls
        if chunk.done:
            self.stats = chunk.stats
            self.reason = "tool_calls" if self.calls else chunk.done_reason or "stop"
        return calls


def openai_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call with its arguments as JSON text."""
    function, arguments = (
        call["function"],
        json.dumps(call["function"]["arguments"], ensure_ascii=False, separators=(",", ":")),
    )
    head = {"id": call["id"], "index": function["index"], "type": "function"}
    return head | {"function": {"name": function["name"], "arguments": arguments}}


def usage(choices: Sequence[Choice], each: int = 0) -> dict[str, Any]:
    """Tokens of a request, and of all its answers: `each` prompt has so many of them, the only one all."""
    stats = [choice.stats for choice in choices if choice.stats]
    each = each or max(len(stats), 1)
    groups = [stats[i : i + each] for i in range(0, len(stats), each)]
    prompt, answers = sum(group[0].prompt_tokens for group in groups), sum(one.tokens for one in stats)
    cached = sum(min(s.cached_tokens for s in group) for group in groups)  # one may have computed it for the others
    total = {"prompt_tokens": prompt, "completion_tokens": answers, "total_tokens": prompt + answers}
    details = {"reasoning_tokens": sum(choice.thought for choice in choices)} | _foretold(stats)
    return total | {"prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": details}


def _foretold(stats: Sequence[Stats]) -> dict[str, int]:
    """How much of a prediction came in the answers, and how much did not, if there was one."""
    came, given = sum(each.foretold_tokens for each in stats), sum(each.predicted_tokens for each in stats)
    return {"accepted_prediction_tokens": came, "rejected_prediction_tokens": given - came} if given else {}


def seeded(ask: Ask, number: int) -> Ask:
    """The same request for another of its answers, with a seed of its own if it has one."""
    options = ask.options or {}
    return replace(ask, options=options | {"seed": options["seed"] + number}) if "seed" in options else ask


def head_of(ask: Sampled) -> dict[str, Any]:
    """What an answer begins with."""
    return {"created": int(time.time()), "model": ask.model, "system_fingerprint": FINGERPRINT}


def answers(call: Call, asks: Sequence[Ask]) -> Pieces:
    """The pieces of all answers, each with the number of its answer."""
    return side_by_side([call.server.answer(ask, call.client) for ask in asks])


async def whole(pieces: Pieces, count: int) -> list[Choice]:
    """All answers, when they are there."""
    choices = [Choice() for _ in range(count)]
    async with aclosing(pieces):
        async for number, piece in pieces:
            if isinstance(piece, Chunk):
                choices[number].take(piece)
    return choices


async def streamed(chunks: AsyncGenerator[dict[str, Any], None]) -> Response:
    """The answer that chunks make, once the first is there."""

    async def events() -> AsyncGenerator[Event, None]:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield None, chunk
            yield DONE

    return sse(await begun(events()), lambda error: (None, openai_body(status_of(error), message_of(error))))
