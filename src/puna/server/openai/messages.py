"""Messages of OpenAI's clients in Puna's own words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from puna.server.errors import Refused


def native_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with one kind of content each, arguments of calls as objects, and names with the results of calls."""
    names: dict[str, str] = {}
    native: list[dict[str, Any]] = []
    for message in messages:
        older = [{"function": message["function_call"]}] if message.get("function_call") else []
        calls = [_call(call, i) for i, call in enumerate(message.get("tool_calls") or older)]
        names |= {call["id"]: call["function"]["name"] for call in calls if call["id"]}
        native += _parts(message, calls, names)
    return native


ROLES = {"developer": "system", "function": "tool"}
"""Roles that OpenAI has other names for."""


def _parts(message: dict[str, Any], calls: list[dict[str, Any]], names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A message for each part of its content; what stands beside the content goes with the last."""
    role = ROLES.get(str(message.get("role")), message.get("role"))
    content = message.get("content") or message.get("refusal")
    if message.get("audio"):
        raise Refused(400, "messages: audio is not supported; text would work")
    if content is not None and not isinstance(content, str | list):
        raise Refused(
            400, f"invalid message content type: {type(content).__name__}; text or a list of parts would work"
        )
    beside: dict[str, Any] = {"tool_calls": calls} if calls else {}
    if thinking := message.get("reasoning") or message.get("reasoning_content"):
        beside["thinking"] = thinking
    identity = message.get("tool_call_id")
    if name := message.get("name") if role == "tool" and not identity else names.get(str(identity or "")):
        beside["tool_name"] = name
    if identity:
        beside["tool_call_id"] = identity
    said = [part_of(part) for part in content] if isinstance(content, list) else [{"content": content or ""}]
    for place, part in enumerate(said or [{"content": ""}]):
        yield {"role": role} | part | (beside if place == max(len(said) - 1, 0) else {})


def part_of(part: Any) -> dict[str, Any]:
    """What a part of a content says; Refused for what is neither text nor an image."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "input_text", "output_text"):
        return {"content": str(part.get("text") or "")}
    if kind == "refusal":
        return {"content": str(part.get("refusal") or "")}
    if kind in ("image_url", "input_image"):
        url = part.get("image_url")
        return {"content": "", "images": [_image(url.get("url") if isinstance(url, dict) else url)]}
    raise Refused(400, f"content part {str(part)[:80]!r} is unknown; text and image_url would work")


def _image(url: Any) -> str:
    if not isinstance(url, str) or not url.startswith("data:"):
        raise Refused(400, "image URLs are not currently supported, please use base64 encoded data instead")
    return url.partition(",")[2]


def _call(call: Any, index: int) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    try:
        arguments = json.loads(function.get("arguments") or "{}") if isinstance(function, dict) else None
    except (ValueError, TypeError):
        arguments = None
    if not isinstance(arguments, dict) or not isinstance(function, dict):
        raise Refused(400, "invalid tool call arguments; the JSON text of an object would work")
    return {
        "id": call.get("id") or "",
        "function": {"index": index, "name": function.get("name"), "arguments": arguments},
    }
