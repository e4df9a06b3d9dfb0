"""What Anthropic's clients send, and what it means in Puna's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from puna.server.anthropic.blocks import native, texts
from puna.server.errors import Refused
from puna.server.tools import offered
from puna.worker.requests import Chat, Lora, Think


class Messages(Struct, kw_only=True):
    """A request for the next message; fields from `container` on are refused."""

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
    service_tier: str | None = None
    lora: list[Lora] | None = None  # which Anthropic's API does not have
    container: Any = None
    mcp_servers: list[Any] | None = None


def to_chat(ask: Messages, *, counting: bool = False) -> Chat:
    """The same in Puna's words; Refused for what makes no sense. A request to count needs no `max_tokens`."""
    if not ask.model:
        raise Refused(400, "model is required")
    if ask.max_tokens <= 0 and not counting:
        raise Refused(400, "max_tokens is required and must be positive")
    if not ask.messages:
        raise Refused(400, "messages is required")
    _check(ask)
    system = texts(ask.system, "system") if ask.system else ""
    before = [{"role": "system", "content": system}] if system else []
    return Chat(
        model=ask.model,
        messages=[*before, *(each for message in ask.messages for each in native(message))],
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
        "num_think": _budget(ask.thinking or {}),
    }
    return {name: value for name, value in given.items() if value is not None}


def _check(ask: Messages) -> None:
    """Refused for what would change an answer and is not supported."""
    for name in ("container", "mcp_servers"):
        if getattr(ask, name):
            raise Refused(400, f"{name} is not supported; tools that the client runs would work")
    if (kind := (ask.thinking or {}).get("type", "disabled")) not in THINKING:
        raise Refused(400, f"thinking: type {kind!r:.40} is not supported; {', '.join(THINKING)} would work")


THINKING = ("enabled", "adaptive", "disabled")
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


def _budget(thinking: Mapping[str, Any]) -> int | None:
    """How many tokens thinking may take; None for as many as it wants."""
    budget = thinking.get("budget_tokens") if thinking.get("type") == "enabled" else None
    if budget is not None and (type(budget) is not int or budget < 1):
        raise Refused(400, f"thinking.budget_tokens is {budget!r:.40}; a whole number above 0 would work")
    return budget


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
    """A tool that the client runs; examples of what goes into it are part of its schema."""
    if "input_schema" not in tool:
        raise Refused(400, f"tools: {tool.get('name')!r} has no input_schema; tools that the client runs would work")
    callers = tool.get("allowed_callers") or ["direct"]
    if "direct" not in callers:
        raise Refused(400, f"tools: {tool.get('name')!r} may be called by {callers[0]!r:.40} only; direct would work")
    described = {name: tool[name] for name in ("name", "description", "strict") if name in tool}
    examples = {"examples": tool["input_examples"]} if tool.get("input_examples") else {}
    return {"type": "function", "function": described | {"parameters": examples | tool["input_schema"]}}
