"""What clients say about the choice of tools, in the forms of all APIs: which may be called, and whether one must come.

auto none required any {"type": "function" or "tool", name} {"type": "allowed_tools", mode, tools}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from puna.server.errors import Refused

Tools = list[dict[str, Any]]
KINDS = {"auto": None, "none": "none", "any": "required", "required": "required"}
"""Words for a choice among all tools, with Puna's own."""


class Offer(NamedTuple):
    """Fields of a native request."""

    tools: Tools | None
    tool_choice: str | None
    parallel_tool_calls: bool | None
    allowed_tools: list[str] | None = None


def offered(tools: Tools | None, choice: Any, several: bool | None = None) -> Offer:
    """The tools for the prompt, "required" where one must be called, whether several may, and which, if not all.

    Refused for a choice that is none, and where there is no such tool.
    """
    if choice is not None and not isinstance(choice, str | Mapping):
        raise _unknown(choice)
    said: Mapping[str, Any] = choice if isinstance(choice, Mapping) else {"type": choice or "auto"}
    several = False if said.get("disable_parallel_tool_use") else several
    match said.get("type"):
        case "function" | "tool":
            return Offer(tools, "required", False, _among(tools, [_name(said)]))
        case "allowed_tools":
            allowed = said["allowed_tools"] if isinstance(said.get("allowed_tools"), Mapping) else said
            names = [_name(tool) for tool in allowed.get("tools") or [] if isinstance(tool, Mapping)]
            return offered(tools if names else None, allowed.get("mode"), several)._replace(
                allowed_tools=_among(tools, names) or None
            )
        case str(kind) if kind in KINDS:
            if KINDS[kind] == "required" and not tools:
                raise Refused(400, f"tool_choice is {kind!r}, and there are no tools; give some in tools")
            return Offer(None if kind == "none" else tools or None, KINDS[kind] if tools else None, several)
    raise _unknown(choice)


def _unknown(choice: Any) -> Refused:
    return Refused(
        400,
        f"tool_choice: {str(choice)[:80]!r} is unknown; {', '.join(KINDS)}, a named tool, or allowed_tools would work",
    )


def _among(tools: Tools | None, names: list[str]) -> list[str]:
    """The names; Refused where there is no such tool."""
    known = {name_of(tool) for tool in tools or []}
    if missing := [name for name in names if name not in known]:
        there = f"there are {', '.join(sorted(map(str, known)))}" if known else "there are none in tools"
        raise Refused(400, f"tool_choice: no tool is called {missing[0]!r}; {there}")
    return names


def name_of(tool: Mapping[str, Any]) -> Any:
    """The name of a tool in OpenAI's form."""
    function = tool.get("function")
    return function.get("name") if isinstance(function, Mapping) else tool.get("name")


def _name(said: Mapping[str, Any]) -> str:
    name = name_of(said)
    if not isinstance(name, str):
        raise Refused(400, f"tool_choice: {str(said)[:80]!r} names no tool; its name would work")
    return name
