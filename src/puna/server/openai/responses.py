"""`/v1/responses`: a response and its stream of events; stored ones can be gone on from, read and deleted."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from puna.generation import Chunk, Stats
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused, message_of, openai_body, status_of
from puna.server.ollama.answers import logprob, tool_call
from puna.server.openai.items import Responses, items_of, to_chat
from puna.server.storage import Stored, page
from puna.server.wire import Event, begun, json_reply, sse
from puna.worker.requests import Chat, Render

Json = list[dict[str, Any]]


@dataclass(slots=True)
class Output:
    """The items of a response while they come."""

    items: list[dict[str, Any]] = field(default_factory=list)
    stats: Stats | None = None
    reason: str = "stop"
    thought: int = 0  # tokens of thinking

    def take(self, chunk: Chunk) -> list[tuple[dict[str, Any], str]]:
        """Note a piece; what it adds: each time an item, which may be new, and text."""
        added = []
        if chunk.thinking:
            self.thought += 0 if chunk.text else len(chunk.tokens)
            added.append((self._item("reasoning"), chunk.thinking))
        if chunk.text:
            added.append((self._item("message"), chunk.text))
            self.items[-1]["content"][0]["logprobs"] += probable(chunk)
        for each in chunk.tool_calls:
            call = tool_call(each, 0)
            head = {"id": identity("fc"), "type": "function_call", "status": "in_progress", "call_id": call["id"]}
            self.items.append(head | {"name": call["function"]["name"], "arguments": ""})
            arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False, separators=(",", ":"))
            added.append((self.items[-1], arguments))
        for item, text in added:
            _append(item, text)
        if chunk.done:
            self.stats, self.reason = chunk.stats, chunk.done_reason or "stop"
        return added

    def _item(self, kind: str) -> dict[str, Any]:
        if not self.items or self.items[-1]["type"] != kind:
            self.items.append(_new(kind))
        return self.items[-1]


def probable(chunk: Chunk) -> list[dict[str, Any]]:
    """How probable the tokens of a piece were, if that was asked for."""
    return [{"top_logprobs": []} | logprob(each) for each in chunk.logprobs]


def identity(kind: str) -> str:
    """A new one."""
    return f"{kind}_{secrets.token_hex(12)}"


def _new(kind: str) -> dict[str, Any]:
    if kind == "reasoning":
        return {
            "id": identity("rs"),
            "type": kind,
            "summary": [{"type": "summary_text", "text": ""}],
            "encrypted_content": "",
        }
    content = [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]
    return {"id": identity("msg"), "type": kind, "status": "in_progress", "role": "assistant", "content": content}


def _append(item: dict[str, Any], text: str) -> None:
    match item["type"]:
        case "reasoning":
            item["encrypted_content"] += text
            item["summary"][0]["text"] += text
        case "message":
            item["content"][0]["text"] += text
        case _:
            item["arguments"] += text


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is when it begins."""
    match item["type"]:
        case "reasoning":
            return {"id": item["id"], "type": "reasoning", "summary": []}
        case "message":
            return item | {"status": "in_progress", "content": []}
        case _:
            return item | {"status": "in_progress", "arguments": ""}


def _done(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"status": "completed"} if "status" in item else item


def _response(ask: Responses, status: str, output: Output, head: Mapping[str, Any]) -> dict[str, Any]:
    """The whole of a response, with everything that was asked for."""
    stats = output.stats
    usage = stats and {
        "input_tokens": stats.prompt_tokens,
        "output_tokens": stats.tokens,
        "total_tokens": stats.prompt_tokens + stats.tokens,
        "input_tokens_details": {"cached_tokens": stats.cached_tokens},
        "output_tokens_details": {"reasoning_tokens": output.thought},
    }
    return {
        **head,
        "object": "response",
        "completed_at": int(time.time()) if stats else None,
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": ask.model,
        "previous_response_id": ask.previous_response_id,
        "instructions": ask.instructions,
        "output": [_done(item) for item in output.items],
        "error": None,
        "tools": ask.tools or [],
        "tool_choice": ask.tool_choice or "auto",
        "truncation": ask.truncation or "disabled",
        "parallel_tool_calls": ask.parallel_tool_calls is not False,
        "text": ask.text or {"format": {"type": "text"}},
        "top_p": 1.0 if ask.top_p is None else ask.top_p,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": ask.top_logprobs or 0,
        "temperature": 1.0 if ask.temperature is None else ask.temperature,
        "reasoning": ask.reasoning,
        "usage": usage,
        "max_output_tokens": ask.max_output_tokens,
        "max_tool_calls": ask.max_tool_calls,
        "store": ask.store is not False,
        "background": False,
        "service_tier": "default",
        "metadata": ask.metadata or {},
        "safety_identifier": ask.safety_identifier,
        "prompt_cache_key": ask.prompt_cache_key,
    } | ({"user": ask.user} if ask.user else {})


async def respond(call: Call, ask: Responses) -> Response:
    """Answer an input."""
    earlier = call.server.responses.find(ask.previous_response_id).items if ask.previous_response_id else []
    chat = to_chat(ask, earlier)
    await call.server.check(chat)
    events = _events(call, ask, chat, [*earlier, *items_of(ask.input)])
    if ask.stream:
        return sse(await begun(events), _failed)
    response = None
    async with aclosing(events):
        async for _, data in events:
            response = data.get("response")
    return json_reply(response)


def _failed(error: Exception) -> Event:
    return "error", {"type": "error"} | openai_body(status_of(error), message_of(error))["error"]


async def _events(
    call: Call, ask: Responses, chat: Chat, items: list[dict[str, Any]]
) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Every event of a response, numbered; the last one has all of it."""
    number = 0
    async for kind, data in _told(call, ask, chat, items):
        yield kind, {"type": kind, **data, "sequence_number": number}
        number += 1


async def _told(
    call: Call, ask: Responses, chat: Chat, items: list[dict[str, Any]]
) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    head = {"id": identity("resp"), "created_at": int(time.time())}
    output, current = Output(), -1
    async with aclosing(call.server.answer(chat, call.client)) as pieces:
        first = await anext(pieces)  # or what is wrong with the request
        for kind in ("created", "in_progress"):
            yield f"response.{kind}", {"response": _response(ask, "in_progress", Output(), head)}
        async for piece in _after(first, pieces):
            if not isinstance(piece, Chunk):
                continue
            for item, text in output.take(piece):
                index = next(i for i, each in enumerate(output.items) if each is item)
                if index != current:
                    for event in _ends(output, current):
                        yield event
                    for event in _begins(item, index):
                        yield event
                    current = index
                yield _delta(item, index, text, probable(piece))
    for event in _ends(output, current):
        yield event
    status = "incomplete" if output.reason == "length" else "completed"
    response = _response(ask, status, output, head)
    if ask.store is not False:
        call.server.responses.keep(Stored(response, [*items, *response["output"]]))
    yield f"response.{status}", {"response": response}


async def _after(first: Any, rest: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    yield first
    async for piece in rest:
        yield piece


def _begins(item: dict[str, Any], index: int) -> list[tuple[str, dict[str, Any]]]:
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.output_item.added", {"output_index": index, "item": _begun(item)})
    ]
    if item["type"] == "message":
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        events.append(("response.content_part.added", place | {"part": part}))
    return events


def _delta(item: dict[str, Any], index: int, text: str, logprobs: Json) -> tuple[str, dict[str, Any]]:
    name, place = _NAMES[item["type"]]
    more: dict[str, Any] = {"logprobs": logprobs} if item["type"] == "message" else {}
    return f"response.{name}.delta", {"item_id": item["id"], "output_index": index, **place, "delta": text, **more}


def _ends(output: Output, index: int) -> list[tuple[str, dict[str, Any]]]:
    """What is said when an item is whole."""
    if index < 0:
        return []
    item = output.items[index]
    name, place = _NAMES[item["type"]]
    at = {"item_id": item["id"], "output_index": index, **place}
    events: list[tuple[str, dict[str, Any]]] = [(f"response.{name}.done", at | _whole(item))]
    if item["type"] == "message":
        events.append(("response.content_part.done", at | {"part": item["content"][0]}))
    return [*events, ("response.output_item.done", {"output_index": index, "item": _done(item)})]


def _whole(item: dict[str, Any]) -> dict[str, Any]:
    match item["type"]:
        case "function_call":
            return {"arguments": item["arguments"]}
        case "reasoning":
            return {"text": item["encrypted_content"]}
        case _:
            return {name: item["content"][0][name] for name in ("text", "logprobs")}


_NAMES: dict[str, tuple[str, dict[str, int]]] = {
    "message": ("output_text", {"content_index": 0}),
    "reasoning": ("reasoning_summary_text", {"summary_index": 0}),
    "function_call": ("function_call_arguments", {}),
}
"""How events about the text of an item are called, and what of the item they are about."""


async def input_tokens(call: Call, ask: Responses) -> Response:
    """How many tokens the prompt of a request has."""
    earlier = call.server.responses.find(ask.previous_response_id).items if ask.previous_response_id else []
    chat = to_chat(ask, earlier)
    await call.server.check(chat)
    named = {name: getattr(chat, name) for name in ("model", "messages", "tools", "think")}
    value = await call.server.value(Render(**named), call.client)
    return json_reply({"object": "response.input_tokens", "input_tokens": len(value["tokens"])})


async def read(call: Call, ask: None) -> Response:
    """A response that was stored; Refused where it is to be streamed once more."""
    if call.http.query_params.get("stream", "false").lower() == "true":
        raise Refused(400, "stream: the events of a stored response are not kept; without it would work")
    return json_reply(call.server.responses.find(call.http.path_params["response"]).response)


async def input_items(call: Call, ask: None) -> Response:
    """What led to a response that was stored: a page of items, the latest first unless `order` is asc."""
    stored = call.server.responses.find(call.http.path_params["response"])
    made = len(stored.response["output"])
    items = [_listed(item, i) for i, item in enumerate(stored.items[: len(stored.items) - made])]
    return json_reply(page(items, call.http.query_params, "desc"))


def _listed(item: Mapping[str, Any], place: int) -> dict[str, Any]:
    """An item with an identity, and a message's content as parts."""
    whole: dict[str, Any] = {"id": f"item_{place}", "type": "message", **item}
    if whole["type"] == "message" and isinstance(whole.get("content"), str):
        kind = "output_text" if whole.get("role") == "assistant" else "input_text"
        whole["content"] = [{"type": kind, "text": whole["content"]}]
    return whole


async def delete(call: Call, ask: None) -> Response:
    """Delete a response that was stored."""
    name = call.http.path_params["response"]
    call.server.responses.forget(name)
    return json_reply({"id": name, "object": "response", "deleted": True})


PATH = "/v1/responses"
ENDPOINTS = [
    Endpoint(method="POST", path=PATH, run=respond, reads=Responses, api="openai", about="Answer an input."),
    Endpoint(
        method="POST",
        path=PATH + "/input_tokens",
        run=input_tokens,
        reads=Responses,
        api="openai",
        about="How many tokens a request has.",
    ),
    Endpoint(method="GET", path=PATH + "/{response}", run=read, api="openai", about="A stored response."),
    Endpoint(
        method="GET", path=PATH + "/{response}/input_items", run=input_items, api="openai", about="What led to it."
    ),
    Endpoint(method="DELETE", path=PATH + "/{response}", run=delete, api="openai", about="Delete a stored response."),
]
