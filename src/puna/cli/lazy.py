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
        return cast(click.Command, importlib.import_module(f"puna.cli.{cmd_name.replace('-', '_')}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called; a usage error names the closest one where there is none."""
        if args[0] not in self._lines and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = ", ".join(get_close_matches(args[0], self._lines))
            ctx.fail(f"No such command {args[0]!r}{'; closest: ' if close else ''}{close}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lines.items()))
