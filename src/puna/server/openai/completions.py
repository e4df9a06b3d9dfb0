"""`/v1/chat/completions`: answers to messages, in OpenAI's form."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from puna.generation import Chunk, Logprob
from puna.server.endpoints import Call, Endpoint
from puna.server.ollama.answers import logprob
from puna.server.openai.choice import Choice, Pieces, answers, head_of, seeded, streamed, usage, whole
from puna.server.openai.requests import ChatCompletion, to_chat
from puna.server.openai.stored import owner_of
from puna.server.shapes.openai import CompletionAnswer
from puna.server.shapes.shape import SSE, Shape
from puna.server.storage import Stored
from puna.server.wire import json_reply


async def chat_completion(call: Call, ask: ChatCompletion) -> Response:
    """Answer messages."""
    chat = to_chat(ask)
    await call.server.check(chat)
    head = {"id": f"chatcmpl-{secrets.token_hex(8)}", "object": "chat.completion"} | head_of(ask)
    head |= {"service_tier": "default"} if ask.service_tier else {}
    pieces = answers(call, [seeded(chat, i) for i in range(ask.n or 1)])
    if ask.stream:
        return await streamed(_chat_chunks(call, ask, head, pieces))
    return json_reply(_kept(call, ask, head, await whole(pieces, ask.n or 1)))


def _kept(call: Call, ask: ChatCompletion, head: dict[str, Any], choices: Sequence[Choice]) -> dict[str, Any]:
    """The whole of an answer, which clients may come back to if they said so."""
    said = [
        {"index": i, "message": _message(c), "finish_reason": c.reason} | _chat_logprobs(c.logprobs)
        for i, c in enumerate(choices)
    ]
    answer = head | {"choices": said, "usage": usage(choices)}
    if ask.store:
        answer |= {"metadata": ask.metadata or {}}
        call.server.completions.keep(Stored(answer, ask.messages or [], owner_of(call)))
    return answer


async def _chat_chunks(
    call: Call, ask: ChatCompletion, start: dict[str, Any], pieces: Pieces
) -> AsyncGenerator[dict[str, Any], None]:
    choices = [Choice() for _ in range(ask.n or 1)]
    head = start | {"object": "chat.completion.chunk"}

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
    _kept(call, ask, start, choices)
    if ask.stream_options and ask.stream_options.include_usage:
        yield head | {"choices": [], "usage": usage(choices)}


def _deltas(chunk: Chunk, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Thinking before everything else, in a delta of its own."""
    deltas: list[dict[str, Any]] = [{"content": "", "reasoning": chunk.thinking}] if chunk.thinking else []
    if chunk.text or calls:
        deltas.append({"content": chunk.text} | ({"tool_calls": calls} if calls else {}))
    return deltas


def _message(choice: Choice) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": choice.text}
    if choice.thinking:
        said["reasoning"] = choice.thinking
    return said | ({"tool_calls": choice.calls} if choice.calls else {})


def _chat_logprobs(logprobs: Sequence[Logprob]) -> dict[str, Any]:
    return {"logprobs": {"content": [{"top_logprobs": []} | logprob(each) for each in logprobs]}} if logprobs else {}


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/chat/completions",
        gives=Shape(CompletionAnswer, (SSE,)),
        run=chat_completion,
        reads=ChatCompletion,
        api="openai",
        about="Answer messages.",
    ),
]
