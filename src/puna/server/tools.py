"""Which of a request's tools are offered to the model, by what the client says about their choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puna.server.errors import Refused

Tools = list[dict[str, Any]]


def offered(tools: Tools | None, choice: Any) -> Tools | None:
    """No tools where the choice is "none", the one it names, else all; Refused where there is none of that name.

    The choice is in OpenAI's form or in Anthropic's. A model is not forced to call one.
    """
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    if kind == "none":
        return None
    name = _named(choice) if kind in ("function", "tool") else None
    if name is None:
        return tools
    if not (found := [tool for tool in tools or [] if tool.get("function", {}).get("name") == name]):
        raise Refused(400, f"tool_choice: no tool is called {name!r}")
    return found


def _named(choice: Mapping[str, Any]) -> str | None:
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    return name if isinstance(name, str) else None
