"""`puna ps`: the models a server has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click

UNITS = (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1)))
FOREVER = timedelta(days=50 * 365)
"""An end as far away as this means that there is none."""


@click.command()
def command() -> None:
    """List the models that a running server has loaded, and how long they stay."""
    from puna.cli.remote import require_server

    rows: list[tuple[str, ...]] = [("NAME", "ID", "SIZE", "CONTEXT", "UNTIL")]
    rows += [row(model, datetime.now(UTC)) for model in require_server().ask("GET", "/api/ps")["models"]]
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(5)]
    for cells in rows:
        click.echo("".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def row(model: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """The cells of one loaded model."""
    from puna.store.blobs import readable_size

    identity = str(model["digest"]).removeprefix("sha256:")[:12]
    context = str(model["context_length"])
    return str(model["name"]), identity, readable_size(model["size"]), context, until(model["expires_at"], now)


def until(ends: str, now: datetime) -> str:
    """When an end comes, in its largest whole unit."""
    left = datetime.fromisoformat(ends) - now
    if left > FOREVER:
        return "for ever"
    for unit, length in UNITS:
        if (count := left // length) > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} from now"
    return "less than a minute from now" if left > timedelta() else "now"
