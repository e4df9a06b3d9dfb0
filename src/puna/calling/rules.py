"""Rules of a Lark grammar as they are made for one tool, each with a name of its own."""

from __future__ import annotations

from collections.abc import Sequence


class Unheld(ValueError):
    """Something in a schema that the format of calls cannot be held to: the keyword, and why."""


class Rules:
    """Rules in the order in which they were added. Names in capitals are of single lexemes, as Lark has it."""

    def __init__(self, tool: int) -> None:
        self.lines: list[str] = []
        self._prefix = f"v{tool}_"

    def named(self) -> str:
        """A name for a rule that is to follow."""
        self.lines.append("")
        return f"{self._prefix}{len(self.lines)}"

    def add(self, body: str, name: str = "") -> str:
        """The name of a rule with this body."""
        name = name or self.named()
        self.lines[int(name.rpartition("_")[2]) - 1] = f"{name}: {body}"
        return name

    def lexeme(self, body: str, *, lazy: bool = False) -> str:
        """The name of a lexeme: text and regular expressions only. A `lazy` one ends as soon as it can."""
        if not lazy:
            return self.add(body, self.named().upper())
        name = self.named()
        self.lines[-1] = f"{name}[lazy]: {body}"
        return name

    def step_by_step(self) -> None:
        """Let nothing be put behind a token, however certain: where exclusions leave one text, llguidance cannot."""
        self.lines.append('%llguidance {"no_forcing": true}')

    def sequence(self, parts: Sequence[tuple[str, bool]], more: str = "", between: str = "") -> str:
        """Parts in their order, those that are required and any of the others, then as many `more` as there are."""
        gap = f"{between} " if between else ""
        rest = self.add(f"({gap}{more})*") if more else ""
        first = f"({more} {rest})?" if more else ""
        for part, required in reversed(parts):
            begun = f"{part} {rest}".strip()
            first = begun if required else f"({begun} | {first})" if first else f"({begun})?"
            first = self.add(first)
            rest = self.add(f"{gap}{begun}" if required else f"({gap}{part})? {rest}")
        return first
