"""What Anthropic's clients send, and what it means in Puna's own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from puna.server.errors import Refused
from puna.server.tools import offered
from puna.worker.requests import Chat, Lora, Think


class Messages(Struct, kw_only=True):
    """A request for the next message."""

    model: str = ""
    max_tokens: int = 0
    messages: list[dict[str, Any]] | None = None
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None  # as older clients call it
    metadata: dict[str, Any] | None = None
    lora: list[Lora] | None = None  # which Anthropic's API does not have


def to_chat(ask: Messages, *, counting: bool = False) -> Chat:
    """The same in Puna's words; Refused for what makes no sense. A request to count needs no `max_tokens`."""
    if not ask.model:
        raise Refused(400, "model is required")
    if ask.max_tokens <= 0 and not counting:
        raise Refused(400, "max_tokens is required and must be positive")
    if not ask.messages:
        raise Refused(400, "messages is required")
    system = _text(ask.system) if ask.system else ""
    before = [{"role": "system", "content": system}] if system else []
    return Chat(
        model=ask.model,
        messages=[*before, *(native for message in ask.messages for native in _native(message))],
        **offered([_tool(tool) for tool in ask.tools or []], ask.tool_choice)._asdict(),
        stream=bool(ask.stream),
        format=_format(ask),
        think=_think(ask),
        options=_options(ask),
        lora=ask.lora,
    )


def _options(ask: Messages) -> dict[str, Any]:
    given = {
        "num_predict": ask.max_tokens or None,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "top_k": ask.top_k,
        "stop": ask.stop_sequences,
    }
    return {name: value for name, value in given.items() if value is not None}


EFFORTS = {"xhigh": "high"}


def _think(ask: Messages) -> Think:
    """Whether to think, and how much; what is disabled stays so."""
    kind = (ask.thinking or {}).get("type")
    effort = (ask.output_config or {}).get("effort")
    if kind == "disabled":
        return False
    if effort:
        return EFFORTS.get(str(effort), str(effort))
    return True if kind in ("enabled", "adaptive") else None


def _format(ask: Messages) -> Any:
    """The JSON Schema that the answer has to follow, if there is one."""
    form = (ask.output_config or {}).get("format") or ask.output_format
    if not form:
        return None
    if (
        not isinstance(form, Mapping)
        or form.get("type") != "json_schema"
        or not isinstance(form.get("schema"), Mapping)
    ):
        raise Refused(400, "output_config.format: {'type': 'json_schema', 'schema': {...}} would work")
    return form["schema"]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if "input_schema" not in tool:
        raise Refused(400, f"tools: {tool.get('name')!r} has no input_schema; tools that the client runs would work")
    described = {name: tool[name] for name in ("name", "description", "strict") if name in tool}
    return {"type": "function", "function": described | {"parameters": tool["input_schema"]}}


def _native(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A message for each result of a tool in it, and one for the rest."""
    role, content = message.get("role"), message.get("content")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    if not isinstance(content, list):
        raise Refused(400, f"messages: content is {type(content).__name__}; text or a list of blocks would work")
    rest = [block for block in content if _kind(block) != "tool_result"]
    for block in content:
        if _kind(block) == "tool_result":
            yield _result(block)
    if rest or not content:
        yield {"role": role} | _said(rest)


def _kind(block: Any) -> str:
    return str(block.get("type")) if isinstance(block, Mapping) else ""


def _said(blocks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the blocks of one message come to."""
    said: dict[str, Any] = {"content": ""}
    for block in blocks:
        match _kind(block):
            case "text":
                said["content"] += str(block.get("text") or "")
            case "document":
                said["content"] += _document(block)
            case "thinking":
                said["thinking"] = said.get("thinking", "") + str(block.get("thinking") or "")
            case "redacted_thinking":
                continue
            case "image":
                said.setdefault("images", []).append(_image(block))
            case "tool_use" | "server_tool_use":
                calls = said.setdefault("tool_calls", [])
                calls.append(_call(block, len(calls)))
            case kind:
                raise Refused(400, f"messages: block {kind!r} is unknown; text, image, thinking, tool_use would work")
    return said


def _result(block: Mapping[str, Any]) -> dict[str, Any]:
    content = block.get("content") or ""
    said = {"content": content} if isinstance(content, str) else _said(content)
    return {"role": "tool"} | said | {"tool_call_id": str(block.get("tool_use_id") or "")}


def _call(block: Mapping[str, Any], index: int) -> dict[str, Any]:
    for name in ("id", "name"):
        if not block.get(name):
            raise Refused(400, f"tool_use block missing required '{name}' field")
    return {
        "id": block["id"],
        "function": {"index": index, "name": block["name"], "arguments": dict(block.get("input") or {})},
    }


def _image(block: Mapping[str, Any]) -> str:
    source = block.get("source")
    if not isinstance(source, Mapping) or source.get("type") != "base64":
        raise Refused(400, "messages: an image has to come as base64; its source has another type")
    return str(source.get("data") or "")


def _document(block: Mapping[str, Any]) -> str:
    source = block.get("source")
    if not isinstance(source, Mapping) or source.get("type") != "text":
        raise Refused(400, "messages: a document has to come as text; its source has another type")
    return str(source.get("data") or "")


def _text(blocks: str | Iterable[Mapping[str, Any]]) -> str:
    return blocks if isinstance(blocks, str) else "".join(str(block.get("text") or "") for block in blocks)
