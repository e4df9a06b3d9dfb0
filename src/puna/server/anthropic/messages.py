"""`/v1/messages`: answers in Anthropic's form, and how many tokens a request has."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from puna.generation import Chunk, Stats
from puna.server.anthropic.requests import Messages, to_chat
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import anthropic_body, message_of, status_of
from puna.server.ollama.answers import tool_call
from puna.server.shapes.anthropic import CountAnswer, MessageAnswer
from puna.server.shapes.shape import SSE, Shape
from puna.server.wire import Event, begun, json_reply, sse
from puna.worker.protocol import Prompted
from puna.worker.requests import Chat, Render

REASONS = {"stop": "end_turn", "length": "max_tokens"}
DELTAS = {"text": "text_delta", "thinking": "thinking_delta", "input": "input_json_delta"}


@dataclass(slots=True)
class Message:
    """A message while it comes: its blocks, and the figures at its end. Thoughts that it `omits` are empty."""

    omits: bool = False
    tier: str | None = None
    blocks: list[dict[str, Any]] = field(default_factory=list)
    reason: str = "end_turn"
    sequence: str | None = None
    stats: Stats | None = None

    def take(self, chunk: Chunk) -> list[tuple[dict[str, Any], str]]:
        """Note a piece; what it adds: each time a block, which may be new, and text."""
        added = []
        for kind, text in (("thinking", chunk.thinking), ("text", chunk.text)):
            if text:
                added.append((self._block(kind), "" if self.omits and kind == "thinking" else text))
                added[-1][0][kind] += added[-1][1]
        for each in chunk.tool_calls:
            call = tool_call(each, 0)
            block = {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": {}}
            self.blocks.append(block)
            added.append((block, json.dumps(call["function"]["arguments"], ensure_ascii=False, separators=(",", ":"))))
            block["input"] = call["function"]["arguments"]
        if chunk.done:
            self.stats = chunk.stats
            used = any(block["type"] == "tool_use" for block in self.blocks)
            self.sequence = None if used else chunk.stop
            reason = "stop_sequence" if chunk.stop else REASONS.get(chunk.done_reason or "stop", "end_turn")
            self.reason = "tool_use" if used else reason
        return added

    def _block(self, kind: str) -> dict[str, Any]:
        if not self.blocks or self.blocks[-1]["type"] != kind:
            self.blocks.append({"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {}))
        return self.blocks[-1]

    def usage(self) -> dict[str, Any]:
        """Tokens of the prompt that were computed, those that were not, and tokens of the answer."""
        tier = {"service_tier": "standard"} if self.tier else {}
        if self.stats is None:
            return {"input_tokens": 0, "output_tokens": 0} | tier
        cached = self.stats.cached_tokens
        read = {"input_tokens": self.stats.prompt_tokens - cached, "cache_read_input_tokens": cached}
        return read | {"output_tokens": self.stats.tokens} | tier


async def messages(call: Call, ask: Messages) -> Response:
    """Answer messages."""
    chat = to_chat(ask)
    await call.server.check(chat)
    head = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": ask.model}
    if ask.stream:
        return sse(await begun(_events(call, chat, head, _message(ask))), _failed)
    message = _message(ask)
    async with aclosing(call.server.answer(chat, call.client)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Chunk):
                message.take(piece)
    end = {"stop_reason": message.reason, "stop_sequence": message.sequence, "usage": message.usage()}
    return json_reply(head | {"content": message.blocks} | end)


def _message(ask: Messages) -> Message:
    return Message((ask.thinking or {}).get("display") == "omitted", ask.service_tier)


def _failed(error: Exception) -> Event:
    return "error", anthropic_body(status_of(error), message_of(error))


async def _events(call: Call, chat: Chat, head: Mapping[str, Any], message: Message) -> AsyncGenerator[Event, None]:
    open_block = -1

    def event(kind: str, **more: Any) -> Event:
        return kind, {"type": kind, **more}

    async with aclosing(call.server.answer(chat, call.client)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Prompted):
                usage = {"input_tokens": len(piece.tokens), "output_tokens": 0}
                start = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
                yield event("message_start", message=start)
                continue
            for block, text in message.take(piece):
                index = next(i for i, each in enumerate(message.blocks) if each is block)
                if index != open_block:
                    if open_block >= 0:
                        yield event("content_block_stop", index=open_block)
                    yield event("content_block_start", index=index, content_block=_empty(block))
                    open_block = index
                if text:
                    yield event("content_block_delta", index=index, delta=_delta(block, text))
            if piece.done:
                if open_block >= 0:
                    yield event("content_block_stop", index=open_block)
                delta = {"stop_reason": message.reason, "stop_sequence": message.sequence}
                yield event("message_delta", delta=delta, usage=message.usage())
                yield event("message_stop")


def _empty(block: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {} if name == "input" else "" if name in DELTAS else value for name, value in block.items()}


def _delta(block: Mapping[str, Any], text: str) -> dict[str, str]:
    if block["type"] == "tool_use":
        return {"type": "input_json_delta", "partial_json": text}
    return {"type": DELTAS[block["type"]], block["type"]: text}


async def count_tokens(call: Call, ask: Messages) -> Response:
    """How many tokens the prompt of a request has."""
    chat = to_chat(ask, counting=True)
    await call.server.check(chat)
    fields = {name: getattr(chat, name) for name in ("model", "messages", "tools", "think")}
    value = await call.server.value(Render(**fields), call.client)
    return json_reply({"input_tokens": len(value["tokens"])})


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/messages",
        gives=Shape(MessageAnswer, (SSE,)),
        run=messages,
        reads=Messages,
        api="anthropic",
        about="Answer messages.",
    ),
    Endpoint(
        method="POST",
        path="/v1/messages/count_tokens",
        gives=Shape(CountAnswer),
        run=count_tokens,
        reads=Messages,
        api="anthropic",
        about="How many tokens a request has.",
    ),
]
