"""`/v1/chat/completions` that were stored: listed, read, given other metadata, deleted; and what led to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from puna.server.endpoints import Call, Endpoint, key_of
from puna.server.openai.fields import check_metadata
from puna.server.shapes.openai import CompletionAnswer, CompletionsAnswer, DeletedAnswer, ItemsAnswer
from puna.server.shapes.shape import Shape
from puna.server.storage import Stored, page
from puna.server.wire import json_reply


class Update(Struct, kw_only=True):
    """What a stored answer is to say of itself."""

    metadata: dict[str, str] | None = None


def owner_of(call: Call) -> str:
    """Whose a stored answer is: the key's; while none are set, everyone's."""
    return key_of(call.http) if call.server.settings.keys else ""


def _find(call: Call) -> Stored:
    return call.server.completions.find(call.http.path_params["completion"])


async def listed(call: Call, ask: None) -> Response:
    """A page of stored answers, of a model and with metadata if that is asked for."""
    asked = call.http.query_params
    named = {of[1]: value for name, value in asked.items() if (of := re.fullmatch(r"metadata\[(.*)\]", name))}
    model = asked.get("model")
    found = [
        each
        for each in call.server.completions.of(owner_of(call))
        if model in (None, each["model"]) and named.items() <= each["metadata"].items()
    ]
    return json_reply(page(found, asked))


async def read(call: Call, ask: None) -> Response:
    """A stored answer."""
    return json_reply(_find(call).response)


async def update(call: Call, ask: Update) -> Response:
    """Give a stored answer other metadata."""
    check_metadata(ask.metadata)
    response = _find(call).response
    response["metadata"] = ask.metadata or {}
    return json_reply(response)


async def delete(call: Call, ask: None) -> Response:
    """Delete a stored answer."""
    name = call.http.path_params["completion"]
    call.server.completions.forget(name)
    return json_reply({"id": name, "object": "chat.completion.deleted", "deleted": True})


async def messages(call: Call, ask: None) -> Response:
    """A page of the messages that a stored answer is to."""
    stored = _find(call)
    listed = [_listed(message, f"{stored.response['id']}-{i}") for i, message in enumerate(stored.items)]
    return json_reply(page(listed, call.http.query_params))


def _listed(message: Mapping[str, Any], identity: str) -> dict[str, Any]:
    """A message with an identity; parts of its content stand beside their text."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    text = "".join(str(part.get("text") or "") for part in parts) if parts is not None else content
    return {**message, "id": identity, "content": text, "content_parts": parts}


PATH = "/v1/chat/completions"
ENDPOINTS = [
    Endpoint(
        method="GET", path=PATH, gives=Shape(CompletionsAnswer), run=listed, api="openai", about="Stored answers."
    ),
    Endpoint(
        method="GET",
        path=PATH + "/{completion}",
        gives=Shape(CompletionAnswer),
        run=read,
        api="openai",
        about="A stored answer.",
    ),
    Endpoint(
        method="POST",
        path=PATH + "/{completion}",
        gives=Shape(CompletionAnswer),
        run=update,
        reads=Update,
        api="openai",
        about="Give a stored answer other metadata.",
    ),
    Endpoint(
        method="DELETE",
        path=PATH + "/{completion}",
        gives=Shape(DeletedAnswer),
        run=delete,
        api="openai",
        about="Delete a stored answer.",
    ),
    Endpoint(
        method="GET",
        path=PATH + "/{completion}/messages",
        gives=Shape(ItemsAnswer),
        run=messages,
        api="openai",
        about="What it is an answer to.",
    ),
]
