"""`puna rm`: remove models."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from puna.store import Store


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def command(names: tuple[str, ...]) -> None:
    """Remove models, and the blobs that no other model uses. A running server that has one loaded unloads it first."""
    from puna.errors import StoreError
    from puna.store import Store
    from puna.store.blobs import readable_size

    store = Store()
    for name in names:
        if not store.knows(name):
            store.manifest(name)  # says what is wrong, before anything is removed
    for name in names:
        unload(store, name)
        click.echo(f"removed {name}, {readable_size(store.remove(name))} freed")
    with suppress(StoreError):  # a manifest that cannot be read keeps every blob, which is no failure of removing
        if freed := store.prune():
            click.echo(f"removed what nothing uses, {readable_size(freed)} freed")


def unload(store: Store, name: str) -> None:
    """Have a running server let go of a model of this store; one that will not is told of, and keeps it for a while."""
    from puna.cli.remote import find_server
    from puna.errors import PunaError

    try:
        server = find_server()
        loaded = server.loaded(name) if server and server.is_puna() else None
        if server and loaded and store.knows(name) and store.manifest(name).digest.endswith(loaded["digest"]):
            server.ask("POST", "/api/generate", {"model": name, "keep_alive": 0})
    except PunaError as error:
        click.echo(f"puna: {name} stays loaded: {error}", err=True)
