"""`puna list`: the models in the store, and in Ollama's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import click

from puna.cli.places import Listed, find_place

UNITS = (
    ("week", timedelta(weeks=1)),
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
)


@click.command()
@click.argument("beginning", default="")
def command(beginning: str) -> None:
    """List the models in the store and in Ollama's, or those whose name begins with BEGINNING.

    Where PUNA_HOST names a server: the models there.
    """
    for line in table(each for each in find_place().listed() if each.name.lower().startswith(beginning.lower())):
        click.echo(line)


def table(models: Iterable[Listed]) -> Iterator[str]:
    """The lines that show models."""
    from puna.store.blobs import readable_size

    rows = [("NAME", "ID", "SIZE", "MODIFIED")]
    for each in models:
        rows.append((each.name, each.digest.removeprefix("sha256:")[:12], readable_size(each.size), age(each.modified)))
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(4)]
    for row in rows:
        yield "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def age(when: datetime | None) -> str:
    """How long ago, in its largest whole unit."""
    if when is None:
        return ""
    passed = datetime.now(UTC) - when
    for unit, length in UNITS:
        if (count := passed // length) > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "now"
