"""A click group that imports a command's file when the command is called, so that help stays fast."""

from __future__ import annotations

import importlib
from typing import Any, cast

import click


class LazyGroup(click.Group):
    """`commands_of` maps each command to its one line of help; `puna.cli.<name>` has it as `command`."""

    def __init__(self, *args: Any, commands_of: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines = commands_of

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the table's order."""
        return list(self._lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self._lines:
            return None
        return cast(click.Command, importlib.import_module(f"puna.cli.{cmd_name}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lines.items()))
