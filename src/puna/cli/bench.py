"""`puna bench`: how fast a model, the kernels and this machine are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from puna.cli.options import threads_option


@click.command()
@click.option("--limits", is_flag=True, help="Measure only what this machine can do at most.")
@threads_option
@click.option(
    "--json", "out", metavar="FILE", help="Write every figure to FILE; - is standard output, without the table."
)
def command(limits: bool, threads: int | None, out: str | None) -> None:
    """Measure how fast a model, the kernels and this machine are."""
    from puna.backends import open_backend

    open_backend("cpu", threads=threads)  # says so where it was not built
    from puna.bench import limits as machine

    found = machine.measure(threads)
    _tell(machine.table(found), found.to_dict(), out)


def _tell(table: Iterable[str], figures: dict[str, Any], out: str | None) -> None:
    """The table, and the figures where they are wanted."""
    if out == "-":
        click.echo(json.dumps(figures, indent=1))
        return
    for line in table:
        click.echo(line)
    if out:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
