"""What clients of the Responses API send, and what it means in Puna's own words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from puna.server.errors import Refused
from puna.server.openai import fields
from puna.server.openai.messages import ROLES
from puna.server.openai.requests import effort, format_of
from puna.server.tools import offered
from puna.worker.requests import Chat, Lora


class Responses(Struct, kw_only=True):
    """A request for a response: `input` is a text or items; `previous_response_id` is what it goes on from.

    Fields from `background` on are refused.
    """

    model: str = ""
    input: Any = None
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    truncation: str | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    max_tool_calls: int | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    lora: list[Lora] | None = None  # which OpenAI's API does not have
    background: bool | None = None
    conversation: Any = None
    context_management: Any = None
    prompt: Any = None
    moderation: Any = None


LOGPROBS = "message.output_text.logprobs"
INCLUDED = (
    LOGPROBS,
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
"""What may be asked to be in a response: after the first, what always is, and what is of tools that are not here."""


def to_chat(ask: Responses, earlier: Sequence[Mapping[str, Any]] = ()) -> Chat:
    """The same in Puna's words, after `earlier` items; Refused for what makes no sense or is not supported."""
    _check(ask)
    before = [{"role": "system", "content": ask.instructions}] if ask.instructions else []
    tools = [native for tool in ask.tools or [] for native in _tools(tool)]
    form = dict((ask.text or {}).get("format") or {})
    if form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": {"schema": form.get("schema")}}
    return Chat(
        model=ask.model,
        messages=[*before, *native_messages([*earlier, *items_of(ask.input)])],
        **offered(tools, ask.tool_choice, ask.parallel_tool_calls)._asdict(),
        stream=bool(ask.stream),
        format=format_of(form or None),
        think=effort((ask.reasoning or {}).get("effort")),
        truncate=True if ask.truncation == "auto" else None,
        options=_options(ask),
        logprobs=wants_logprobs(ask) or None,
        top_logprobs=ask.top_logprobs or 0 if wants_logprobs(ask) else None,
        lora=ask.lora,
    )


def wants_logprobs(ask: Responses) -> bool:
    """Whether a response is to say how probable its tokens were."""
    return LOGPROBS in (ask.include or []) or bool(ask.top_logprobs)


def _check(ask: Responses) -> None:
    """Refused for what is not supported."""
    fields.check(ask, fields.RESPONSES, ask.metadata)
    if unknown := [name for name in ask.include or [] if name not in INCLUDED]:
        raise Refused(400, f"include: {unknown[0]!r:.80} is unknown; {', '.join(INCLUDED)} would work")
    if ask.max_output_tokens is not None and ask.max_output_tokens < 1:
        raise Refused(400, f"max_output_tokens is {ask.max_output_tokens}; 1 or more would work")
    verbosity, mode = (ask.text or {}).get("verbosity"), (ask.reasoning or {}).get("mode")
    if verbosity not in (None, "medium"):
        raise Refused(400, "text.verbosity is not supported; medium, or instructions that say so, would work")
    if mode not in (None, "standard"):
        raise Refused(400, f"reasoning.mode {mode!r:.40} is not supported; standard would work")


def _options(ask: Responses) -> dict[str, Any]:
    temperature = 1.0 if ask.temperature is None else ask.temperature
    given = {"temperature": temperature, "top_p": ask.top_p, "num_predict": ask.max_output_tokens}
    return {name: value for name, value in given.items() if value is not None}


def _tools(tool: Mapping[str, Any], space: str = "") -> Iterator[dict[str, Any]]:
    """A function, or those of a namespace, whose name comes before theirs."""
    name = str(tool.get("name") or "")
    match tool.get("type"):
        case "namespace":
            for each in tool.get("tools") or []:
                yield from _tools(each, f"{name}.")
        case "function":
            named = {"name": name if name.startswith(space) else space + name}
            described = {field: tool[field] for field in ("description", "strict") if tool.get(field)}
            yield {"type": "function", "function": named | described | {"parameters": tool.get("parameters") or {}}}
        case kind:
            raise Refused(400, f"tools: type {kind!r} is not supported; function and namespace would work")


def items_of(given: Any) -> list[dict[str, Any]]:
    """Items of an input, which may be a text."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise Refused(400, "input: a text or a list of items would work")
    return given


def native_messages(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages of items: reasoning, text and calls of one turn go together."""
    messages: list[dict[str, Any]] = []
    for item in items:
        match item.get("type") or "message":
            case "message":
                _message(messages, item)
            case "reasoning":
                messages.append({"role": "assistant", "content": "", "thinking": _reasoning(item)})
            case "function_call":
                _turn(messages).setdefault("tool_calls", []).append(_call(item))
            case "function_call_output":
                said = {"content": _texts(item.get("output")), "tool_call_id": str(item.get("call_id") or "")}
                messages.append({"role": "tool"} | said)
            case kind:
                known = "message, reasoning, function_call, function_call_output"
                raise Refused(400, f"input: item of type {kind!r} is not supported; {known} would work")
    return messages


def _message(messages: list[dict[str, Any]], item: Mapping[str, Any]) -> None:
    said: dict[str, Any] = {
        "role": ROLES.get(str(item.get("role")), item.get("role")),
        "content": _texts(item.get("content")),
    }
    if images := _images(item.get("content")):
        said["images"] = images
    last = messages[-1] if messages else {}
    if said["role"] == "assistant" and "thinking" in last and not last["content"] and "tool_calls" not in last:
        last["content"] = said["content"]
    else:
        messages.append(said)


def _turn(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's turn that a call belongs to."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    try:
        arguments = json.loads(item.get("arguments") or "{}")
    except (ValueError, TypeError) as error:
        raise Refused(400, "input: arguments of a function_call are not the JSON text of an object") from error
    function = {"index": 0, "name": str(item.get("name") or ""), "arguments": arguments}
    return {"id": str(item.get("call_id") or ""), "function": function}


def _reasoning(item: Mapping[str, Any]) -> str:
    return str(item.get("encrypted_content") or _texts(item.get("summary")))


def _texts(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise Refused(400, f"input: content is {type(content).__name__}; text or a list of parts would work")
    kinds = [part.get("type", "text") if isinstance(part, Mapping) else part for part in content]
    if unknown := [kind for kind in kinds if kind not in PARTS]:
        raise Refused(
            400, f"input: a part of type {unknown[0]!r:.40} is not supported; input_text, input_image would work"
        )
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in content)


PARTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal", "input_image")
"""Parts of contents that are read: texts, and images."""


def _images(content: Any) -> list[str]:
    parts = content if isinstance(content, list) else []
    urls = [part.get("image_url") for part in parts if isinstance(part, Mapping) and part.get("type") == "input_image"]
    if any(not isinstance(url, str) or not url.startswith("data:") for url in urls):
        raise Refused(400, "input: an image has to come as base64, in a data: address")
    return [str(url).partition(",")[2] for url in urls]
