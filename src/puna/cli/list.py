"""`puna list`: the models in the store, and in Ollama's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

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
    for line in table(each for each in listed() if each.name.lower().startswith(beginning.lower())):
        click.echo(line)


class Listed(NamedTuple):
    """A model in a list; `size` is bytes."""

    name: str
    digest: str
    size: int
    modified: datetime | None


def listed() -> Iterator[Listed]:
    """The models of this machine."""
    for name, manifest in models():
        yield Listed(name.short, manifest.digest, manifest.size, manifest.modified)


def table(models: Iterable[Listed]) -> Iterator[str]:
    """The lines that show models."""
    from puna.store.blobs import readable_size

    rows = [("NAME", "ID", "SIZE", "MODIFIED")]
    for each in models:
        rows.append((each.name, each.digest.removeprefix("sha256:")[:12], readable_size(each.size), age(each.modified)))
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(4)]
    for row in rows:
        yield "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


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
