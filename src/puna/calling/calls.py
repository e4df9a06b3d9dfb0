"""The tools that an answer may call, and whether it has to. Knows no grammar and no format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puna.errors import RequestError


@dataclass(frozen=True, slots=True)
class Calls:
    """What an answer may call. `forced`: it has to; `several`: more than one, if the format can; `allowed`: these."""

    tools: Sequence[Mapping[str, Any]]
    forced: bool = False
    several: bool = True
    allowed: frozenset[str] | None = None

    @property
    def callable(self) -> list[Mapping[str, Any]]:
        """Those of the tools that may be called."""
        return [tool for tool in self.tools if self.allowed is None or function_of(tool).get("name") in self.allowed]

    @property
    def held(self) -> str:
        """Why calls are held to a grammar: they are forced, or to few tools, or a tool is strict; empty if not."""
        strict = any(function_of(tool).get("strict") for tool in self.callable)
        chosen = "allowed tools" if self.allowed is not None else "strict tools" if strict else ""
        return "forced tool choice" if self.forced else chosen


def calls_of(
    tools: Sequence[Mapping[str, Any]] | None,
    choice: str | None = None,
    several: bool | None = None,
    allowed: Sequence[str] | None = None,
) -> Calls | None:
    """What an answer may call by a `choice` ("required", "auto" or none said, "none"), of the `allowed` if said.

    RequestError for another choice, and for tools that are not there.
    """
    if choice not in (None, "auto", "none", "required"):
        raise RequestError(f"tool_choice is {choice!r}; auto, none, required would work")
    if choice == "required" and not tools:
        raise RequestError("tool_choice is 'required', and there are no tools; give some in tools")
    if not tools or choice == "none":
        return None
    known = [str(function_of(tool).get("name")) for tool in tools]
    if missing := [name for name in allowed or () if name not in known]:
        raise RequestError(f"allowed_tools: no tool is called {missing[0]!r}; there are {', '.join(known)}")
    return Calls(tools, choice == "required", several is not False, frozenset(allowed) if allowed else None)


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function of a tool, which may be given bare."""
    function = tool.get("function")
    return function if isinstance(function, Mapping) else tool
