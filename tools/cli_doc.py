"""Writes docs/cli.md from the commands themselves:  python tools/cli_doc.py"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from puna.cli import COMMANDS, cli

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
HEAD = """\
# The command line

Made by `tools/cli_doc.py`; do not edit.

Status 0: done. 1: failed, and one line on stderr says what, and what would work. 2: called wrongly. 130: interrupted;
143: terminated.
Models are kept in `$PUNA_MODELS`, else in `~/.puna/models`.

**A server elsewhere.** Where `PUNA_HOST` names a server (`host`, `host:port` or a URL), `list`, `show`, `cp`, `rm`,
`create` and `pull` act on its models instead, as `run`, `embed`, `ps` and `stop` do; files that a Modelfile names here
are sent to it. `OLLAMA_HOST` does so where it names another machine than this one. `0.0.0.0` or `::`, where a server
listens everywhere, names none. `PUNA_API_KEY` is the key to ask with. It may be Ollama's own server. Files and
directories are always looked at here, and `convert`, `export`, `merge`, `verify`, `imatrix` and `bench` work here only.
"""


def page() -> str:
    """The text of docs/cli.md."""
    context = click.Context(cli, info_name="puna")
    parts = [HEAD, *_table(cli, context)]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts += _section(command, click.Context(command, info_name=name, parent=context))
    return "\n".join(parts)


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"## puna {context.info_name}\n\n    {usage}\n\n{inspect.cleandoc(command.help or '')}\n"
    yield from _table(command, context)


def _table(command: click.Command, context: click.Context) -> Iterator[str]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    if not options:
        return
    yield "| Option | |\n|---|---|"
    for option in options:
        name, text = option.get_help_record(context) or ("", "")
        yield f"| `{name}` | {text} |".replace("  ", " ")
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
