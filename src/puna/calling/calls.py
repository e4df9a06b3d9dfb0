"""The tools that an answer may call, and whether it has to. Knows no grammar and no format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puna.errors import RequestError


@dataclass(frozen=True, slots=True)
class Calls:
    """What an answer may call. `forced`: it has to; `several`: more than one, if the format can."""

    tools: Sequence[Mapping[str, Any]]
    forced: bool = False
    several: bool = True

    @property
    def held(self) -> bool:
        """Whether calls are held to a grammar: they are forced, or a tool is strict."""
        return self.forced or any(function_of(tool).get("strict") for tool in self.tools)


def calls_of(
    tools: Sequence[Mapping[str, Any]] | None, choice: str | None = None, several: bool | None = None
) -> Calls | None:
    """What an answer may call by a `choice`: "required", "auto" or none said, "none". RequestError for another one."""
    if choice not in (None, "auto", "none", "required"):
        raise RequestError(f"tool_choice is {choice!r}; auto, none, required would work")
    if choice == "required" and not tools:
        raise RequestError("tool_choice is 'required', and there are no tools; give some in tools")
    return Calls(tools, choice == "required", several is not False) if tools and choice != "none" else None


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function of a tool, which may be given bare."""
    function = tool.get("function")
    return function if isinstance(function, Mapping) else tool
