"""`puna cp`: a second name for a model."""

from __future__ import annotations

import click


@click.command()
@click.argument("source")
@click.argument("target")
def command(source: str, target: str) -> None:
    """Give the model SOURCE a second name, TARGET; no bytes are copied."""
    from puna.cli.places import find_place

    find_place().copy(source, target)
