"""`puna list`: the models in the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click


@click.command()
@click.argument("beginning", default="")
def command(beginning: str) -> None:
    """List the models in the store, or those whose name begins with BEGINNING."""
    from puna.cli.progress import size
    from puna.store import Store

    store = Store()
    rows = [("NAME", "ID", "SIZE", "MODIFIED")]
    for name in store.models():
        if name.short.lower().startswith(beginning.lower()):
            manifest = store.manifest(name)
            identity = manifest.digest.removeprefix("sha256:")[:12]
            rows.append((name.short, identity, size(manifest.size), age(manifest.modified)))
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(4)]
    for row in rows:
        click.echo("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def age(when: datetime | None) -> str:
    """How long ago, in its largest whole unit."""
    if when is None:
        return ""
    passed = datetime.now(UTC) - when
    units = (("week", timedelta(weeks=1)), ("day", timedelta(days=1)), ("hour", timedelta(hours=1)))
    for unit, length in (*units, ("minute", timedelta(minutes=1))):
        if (count := passed // length) > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "now"
