"""Messages of Anthropic's clients, which are lists of blocks, in Puna's own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from puna.server.errors import Refused


def native(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
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
            case "document" | "search_result":
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
                known = "text, document, search_result, image, thinking, tool_use, tool_result"
                raise Refused(400, f"messages: block {kind!r} is unknown; {known} would work")
    return said


def _result(block: Mapping[str, Any]) -> dict[str, Any]:
    """A message with the result of a tool; that it is an error is said, unless its text does so."""
    content = block.get("content") or ""
    said = {"content": content} if isinstance(content, str) else _said(content)
    if block.get("is_error") and "error" not in said["content"][:40].lower():
        said["content"] = f"Error: {said['content']}"
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
    """A document's text, or a result's of a search, behind its title and what else is said of it."""
    cited, source = block.get("citations"), block.get("source")
    if isinstance(cited, Mapping) and cited.get("enabled"):
        raise Refused(400, "messages: citations are not supported; a document without them would work")
    if _kind(block) == "search_result":
        said = [block.get("title"), source, texts(block.get("content") or [], "a search result")]
    else:
        said = [block.get("title"), block.get("context"), _source(source)]
    return "\n".join(str(each) for each in said if each)


def _source(source: Any) -> str:
    kind = source.get("type") if isinstance(source, Mapping) else None
    if kind == "content":
        return texts(source.get("content") or "", "a document")
    if kind != "text":
        raise Refused(400, "messages: a document has to come as text; its source has another type")
    return str(source.get("data") or "")


def texts(blocks: str | Iterable[Mapping[str, Any]], what: str) -> str:
    """Blocks of text, joined; Refused for what else `what` may have."""
    if isinstance(blocks, str):
        return blocks
    if other := [_kind(block) for block in blocks if _kind(block) != "text"]:
        raise Refused(400, f"{what} has a block {other[0]!r:.40}; text would work")
    return "".join(str(block.get("text") or "") for block in blocks)
