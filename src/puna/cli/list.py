"""`puna list`: the models in the store, and in Ollama's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from puna.store.manifest import Manifest
    from puna.store.name import ModelName

UNITS = (
    ("week", timedelta(weeks=1)),
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
)


@click.command()
@click.argument("beginning", default="")
def command(beginning: str) -> None:
    """List the models in the store and in Ollama's, or those whose name begins with BEGINNING."""
    from puna.store.blobs import readable_size

    rows = [("NAME", "ID", "SIZE", "MODIFIED")]
    for name, manifest in models():
        if name.short.lower().startswith(beginning.lower()):
            identity = manifest.digest.removeprefix("sha256:")[:12]
            rows.append((name.short, identity, readable_size(manifest.size), age(manifest.modified)))
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(4)]
    for row in rows:
        click.echo("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def models() -> Iterator[tuple[ModelName, Manifest]]:
    """Every model that `run` finds by name; of one that cannot be read, a line on stderr says why."""
    from puna.errors import StoreError
    from puna.store import Store
    from puna.store.sources import ollama_stores

    seen: set[str] = set()
    for store in (Store(), *ollama_stores()):
        for name in store.models():
            if name.short.lower() in seen:
                continue
            seen.add(name.short.lower())
            try:
                yield name, store.manifest(name)
            except StoreError as error:
                click.echo(f"puna: {error}", err=True)


def age(when: datetime | None) -> str:
    """How long ago, in its largest whole unit."""
    if when is None:
        return ""
    passed = datetime.now(UTC) - when
    for unit, length in UNITS:
        if (count := passed // length) > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "now"
