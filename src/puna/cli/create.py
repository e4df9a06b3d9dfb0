"""`puna create`: make a model from a Modelfile."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option("-f", "--file", type=click.Path(path_type=Path), default=Path("Modelfile"), show_default=True)
def command(name: str, file: Path) -> None:
    """Make the model NAME from a Modelfile; paths in it are relative to the file."""
    from puna.cli.progress import Progress
    from puna.create.build import create
    from puna.store import Store

    with Progress() as progress:
        create(Store(), name, file.read_bytes(), on_progress=progress, directory=file.resolve().parent)
