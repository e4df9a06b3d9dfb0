"""The items of a response while they come."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from puna.generation import Chunk, Stats
from puna.server.ollama.answers import logprob, tool_call


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


def begun_item(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is when it begins."""
    match item["type"]:
        case "reasoning":
            return {"id": item["id"], "type": "reasoning", "summary": []}
        case "message":
            return item | {"status": "in_progress", "content": []}
        case _:
            return item | {"status": "in_progress", "arguments": ""}


def done_item(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is when it is whole."""
    return item | {"status": "completed"} if "status" in item else item
