"""`/v1/chat/completions` and `/v1/completions`: answers in OpenAI's form."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar

from msgspec.structs import replace
from starlette.responses import Response

from puna.generation import Chunk, Logprob, Stats
from puna.server.choices import side_by_side
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused, message_of, openai_body, status_of
from puna.server.ollama.answers import logprob, tool_call
from puna.server.openai.requests import ChatCompletion, Completion, Sampled, candidates, to_chat, to_generate
from puna.server.openai.stored import owner_of
from puna.server.storage import Stored
from puna.server.wire import Event, begun, json_reply, sse
from puna.worker.protocol import Prompted
from puna.worker.requests import Chat, Detokenize, Generate

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


def usage(choices: Sequence[Choice]) -> dict[str, Any]:
    """Tokens of a request, and of all its answers."""
    stats = [choice.stats for choice in choices if choice.stats]
    prompt = stats[0].prompt_tokens if stats else 0
    answers = sum(each.tokens for each in stats)
    cached = min((each.cached_tokens for each in stats), default=0)  # one of them may have computed it for the others
    total = {"prompt_tokens": prompt, "completion_tokens": answers, "total_tokens": prompt + answers}
    details = {"reasoning_tokens": sum(choice.thought for choice in choices)} | _foretold(stats)
    return total | {"prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": details}


def _foretold(stats: Sequence[Stats]) -> dict[str, int]:
    """How much of a prediction came in the answers, and how much did not, if there was one."""
    came, given = sum(each.foretold_tokens for each in stats), sum(each.predicted_tokens for each in stats)
    return {"accepted_prediction_tokens": came, "rejected_prediction_tokens": given - came} if given else {}


async def chat_completion(call: Call, ask: ChatCompletion) -> Response:
    """Answer messages."""
    chat = to_chat(ask)
    await call.server.check(chat)
    head = {"id": f"chatcmpl-{secrets.token_hex(8)}", "object": "chat.completion"} | _head(ask)
    head |= {"service_tier": "default"} if ask.service_tier else {}
    pieces = _answers(call, [_seeded(chat, i) for i in range(ask.n or 1)])
    if ask.stream:
        return await _stream(_chat_chunks(call, ask, head, pieces))
    return json_reply(_kept(call, ask, head, await _whole(pieces, ask.n or 1)))


def _kept(call: Call, ask: ChatCompletion, head: dict[str, Any], choices: Sequence[Choice]) -> dict[str, Any]:
    """The whole of an answer, which clients may come back to if they said so."""
    said = [
        {"index": i, "message": _message(c), "finish_reason": c.reason} | _chat_logprobs(c.logprobs)
        for i, c in enumerate(choices)
    ]
    whole = head | {"choices": said, "usage": usage(choices)}
    if ask.store:
        whole |= {"metadata": ask.metadata or {}}
        call.server.completions.keep(Stored(whole, ask.messages or [], owner_of(call)))
    return whole


async def completion(call: Call, ask: Completion) -> Response:
    """Go on from one text or several."""
    prompts, given, count = _prompts(ask.prompt), ask.n or 1, candidates(ask)
    asks = [_seeded(to_generate(ask, prompt), i) for prompt in prompts for i in range(count)]
    await call.server.check(asks[0])
    head = {"id": f"cmpl-{secrets.token_hex(8)}", "object": "text_completion"} | _head(ask)
    echoes = [each for prompt in prompts for each in [await _echo(call, ask, prompt)] * given]
    pieces = _answers(call, asks)
    if ask.stream:
        return await _stream(_text_chunks(ask, head, pieces, echoes))
    choices = await _whole(pieces, len(asks))
    best = [each for i in range(0, len(choices), count) for each in _best(choices[i : i + count], given)]
    said = [
        {"text": echoes[i] + c.text, "index": i, "finish_reason": c.reason}
        | (_text_logprobs(c.logprobs) if isinstance(ask.logprobs, int) else {})
        for i, c in enumerate(best)
    ]
    return json_reply(head | {"choices": said, "usage": usage(choices)})


async def _echo(call: Call, ask: Completion, prompt: str | list[int]) -> str:
    """What is said of a prompt before its answer."""
    if not ask.echo or isinstance(prompt, str):
        return str(prompt) if ask.echo else ""
    return str((await call.server.value(Detokenize(model=ask.model, tokens=prompt), call.client))["text"])


def _best(choices: Sequence[Choice], count: int) -> Sequence[Choice]:
    """Those whose tokens are the most probable, in the mean."""
    if count == len(choices):
        return choices

    def mean(choice: Choice) -> float:
        return sum(each.logprob for each in choice.logprobs) / max(len(choice.logprobs), 1)

    return sorted(choices, key=mean, reverse=True)[:count]


def _prompts(prompt: Any) -> list[Any]:
    """The prompts of a request: one text, several, a list of token ids, or several lists."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return [prompt]
    if isinstance(prompt, list) and prompt and all(_is_prompt(each) for each in prompt):
        return prompt
    raise Refused(400, "prompt: a text, a list of token ids, or a list of either would work")


def _is_prompt(each: Any) -> bool:
    return isinstance(each, str) or (isinstance(each, list) and bool(each) and all(type(t) is int for t in each))


def _seeded(ask: Ask, number: int) -> Ask:
    """The same request for another of its answers, with a seed of its own if it has one."""
    options = ask.options or {}
    return replace(ask, options=options | {"seed": options["seed"] + number}) if "seed" in options else ask


def _head(ask: Sampled) -> dict[str, Any]:
    return {"created": int(time.time()), "model": ask.model, "system_fingerprint": FINGERPRINT}


def _answers(call: Call, asks: Sequence[Ask]) -> Pieces:
    """The pieces of all answers, each with the number of its answer."""
    return side_by_side([call.server.answer(ask, call.client) for ask in asks])


async def _whole(pieces: Pieces, count: int) -> list[Choice]:
    choices = [Choice() for _ in range(count)]
    async with aclosing(pieces):
        async for number, piece in pieces:
            if isinstance(piece, Chunk):
                choices[number].take(piece)
    return choices


async def _stream(chunks: AsyncGenerator[dict[str, Any], None]) -> Response:
    async def events() -> AsyncGenerator[Event, None]:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield None, chunk
            yield DONE

    return sse(await begun(events()), lambda error: (None, openai_body(status_of(error), message_of(error))))


async def _chat_chunks(
    call: Call, ask: ChatCompletion, whole: dict[str, Any], pieces: Pieces
) -> AsyncGenerator[dict[str, Any], None]:
    choices = [Choice() for _ in range(ask.n or 1)]
    head = whole | {"object": "chat.completion.chunk"}

    def chunk(
        number: int, delta: dict[str, Any], reason: str | None, logprobs: Sequence[Logprob] = ()
    ) -> dict[str, Any]:
        choice = {"index": number, "delta": delta, "finish_reason": reason} | _chat_logprobs(logprobs)
        return head | {"choices": [choice]}

    async with aclosing(pieces):
        async for number, piece in pieces:
            if not isinstance(piece, Chunk):
                continue
            choice = choices[number]
            calls = choice.take(piece)
            for delta in _deltas(piece, calls):
                role = {} if choice.begun else {"role": "assistant"}
                choice.begun = True
                yield chunk(number, role | delta, None, piece.logprobs)
            if piece.done:
                yield chunk(number, {} if choice.begun else {"role": "assistant", "content": ""}, choice.reason)
    _kept(call, ask, whole, choices)
    if ask.stream_options and ask.stream_options.include_usage:
        yield head | {"choices": [], "usage": usage(choices)}


def _deltas(chunk: Chunk, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Thinking before everything else, in a delta of its own."""
    deltas: list[dict[str, Any]] = [{"content": "", "reasoning": chunk.thinking}] if chunk.thinking else []
    if chunk.text or calls:
        deltas.append({"content": chunk.text} | ({"tool_calls": calls} if calls else {}))
    return deltas


async def _text_chunks(
    ask: Completion, head: dict[str, Any], pieces: Pieces, echoes: Sequence[str]
) -> AsyncGenerator[dict[str, Any], None]:
    choices = [Choice() for _ in echoes]
    async with aclosing(pieces):
        async for number, piece in pieces:
            if not isinstance(piece, Chunk):
                continue
            choice = choices[number]
            choice.take(piece)
            if piece.text or piece.done:
                text = ("" if choice.begun else echoes[number]) + piece.text
                choice.begun = True
                said = {"text": text, "index": number, "finish_reason": choice.reason if piece.done else None}
                yield head | {"choices": [said | _text_logprobs(piece.logprobs)]}
    if ask.stream_options and ask.stream_options.include_usage:
        yield head | {"choices": [], "usage": usage(choices)}


def _message(choice: Choice) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": choice.text}
    if choice.thinking:
        said["reasoning"] = choice.thinking
    return said | ({"tool_calls": choice.calls} if choice.calls else {})


def _chat_logprobs(logprobs: Sequence[Logprob]) -> dict[str, Any]:
    return {"logprobs": {"content": [{"top_logprobs": []} | logprob(each) for each in logprobs]}} if logprobs else {}


def _text_logprobs(logprobs: Sequence[Logprob]) -> dict[str, Any]:
    if not logprobs:
        return {}
    offsets = accumulate((len(each.text) for each in logprobs[:-1]), initial=0)
    return {
        "logprobs": {
            "tokens": [each.text for each in logprobs],
            "token_logprobs": [each.logprob for each in logprobs],
            "top_logprobs": [{other.text: other.logprob for other in each.top} for each in logprobs],
            "text_offset": list(offsets),
        }
    }


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/chat/completions",
        run=chat_completion,
        reads=ChatCompletion,
        api="openai",
        about="Answer messages.",
    ),
    Endpoint(
        method="POST",
        path="/v1/completions",
        run=completion,
        reads=Completion,
        api="openai",
        about="Go on from a text.",
    ),
]
