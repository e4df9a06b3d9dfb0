"""`puna create`: make a model from a Modelfile."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.option(
    *("-f", "--file"),
    type=click.Path(path_type=Path),
    default=Path("Modelfile"),
    show_default=True,
    help="The Modelfile; paths in it are relative to it.",
)
def command(name: str, file: Path) -> None:
    """Make the model NAME from a Modelfile. Where it fails or is stopped, the store stays as it was."""
    from puna.cli.progress import Progress
    from puna.create.build import create
    from puna.create.convert import convert
    from puna.errors import ModelfileError
    from puna.store import Store

    try:
        text = file.read_bytes()
    except FileNotFoundError as error:
        raise ModelfileError(f"creating {name}: {file}: {error.strerror}; -f FILE reads another Modelfile") from error
    with Progress() as progress:
        create(
            Store(),
            name,
            text,
            convert=partial(convert, on_progress=progress.stage("converting model")),
            on_progress=progress,
            directory=file.resolve().parent,
        )
