"""`puna rm`: remove models."""

from __future__ import annotations

from contextlib import suppress

import click


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def command(names: tuple[str, ...]) -> None:
    """Remove models, and the blobs that no other model uses."""
    from puna.errors import StoreError
    from puna.store import Store
    from puna.store.blobs import readable_size

    store = Store()
    for name in names:
        if not store.knows(name):
            store.manifest(name)  # says what is wrong, before anything is removed
    for name in names:
        click.echo(f"removed {name}, {readable_size(store.remove(name))} freed")
    with suppress(StoreError):  # a manifest that cannot be read keeps every blob, which is no failure of removing
        if freed := store.prune():
            click.echo(f"removed what nothing uses, {readable_size(freed)} freed")
