"""`/v1/responses`: a response and its stream of events; stored ones can be gone on from, read and deleted."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response

from puna.generation import Chunk
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused, message_of, openai_body, status_of
from puna.server.openai.items import Responses, items_of, to_chat
from puna.server.openai.output import Output, begun_item, done_item, identity, probable
from puna.server.shapes.openai import DeletedAnswer, InputTokensAnswer, ItemsAnswer, ResponseAnswer
from puna.server.shapes.shape import SSE, Shape
from puna.server.storage import Stored, page
from puna.server.wire import Event, begun, json_reply, sse
from puna.worker.requests import Chat, Render

Json = list[dict[str, Any]]


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
        "output": [done_item(item) for item in output.items],
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
        ("response.output_item.added", {"output_index": index, "item": begun_item(item)})
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
    return [*events, ("response.output_item.done", {"output_index": index, "item": done_item(item)})]


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
    Endpoint(
        method="POST",
        path=PATH,
        gives=Shape(ResponseAnswer, (SSE,)),
        run=respond,
        reads=Responses,
        api="openai",
        about="Answer an input.",
    ),
    Endpoint(
        method="POST",
        path=PATH + "/input_tokens",
        gives=Shape(InputTokensAnswer),
        run=input_tokens,
        reads=Responses,
        api="openai",
        about="How many tokens a request has.",
    ),
    Endpoint(
        method="GET",
        path=PATH + "/{response}",
        gives=Shape(ResponseAnswer),
        run=read,
        api="openai",
        about="A stored response.",
    ),
    Endpoint(
        method="GET",
        path=PATH + "/{response}/input_items",
        gives=Shape(ItemsAnswer),
        run=input_items,
        api="openai",
        about="What led to it.",
    ),
    Endpoint(
        method="DELETE",
        path=PATH + "/{response}",
        gives=Shape(DeletedAnswer),
        run=delete,
        api="openai",
        about="Delete a stored response.",
    ),
]
