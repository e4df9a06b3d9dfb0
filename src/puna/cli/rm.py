"""`puna rm`: remove models."""

from __future__ import annotations

import click


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def command(names: tuple[str, ...]) -> None:
    """Remove models, and the blobs that no other model uses. A running server that has one loaded unloads it first."""
    from puna.cli.places import find_place

    for line in find_place().remove(names):
        click.echo(line)
