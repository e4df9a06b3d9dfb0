"""Where the models are that commands list, show, copy, remove and make: in this machine's stores, or with a server.

It knows what is asked of either, not what commands print.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import click

from puna.errors import ModelNotFound, PunaError, RequestError, StoreError

if TYPE_CHECKING:
    from puna.cli.progress import Progress
    from puna.cli.remote import Server
    from puna.cli.told import Shown
    from puna.create.modelfile import Modelfile
    from puna.store import Store
    from puna.store.manifest import Manifest
    from puna.store.name import ModelName


class Listed(NamedTuple):
    """A model in a list; `size` is bytes."""

    name: str
    digest: str
    size: int
    modified: datetime | None


class Place(Protocol):
    """What commands ask of where models are."""

    def listed(self) -> Iterator[Listed]:
        """The models there are."""

    def shown(self, model: str) -> Shown:
        """What a model is made of."""

    def copy(self, source: str, target: str) -> None:
        """Give a model a second name."""

    def remove(self, names: Sequence[str]) -> Iterator[str]:
        """Remove models, all or, where one is not there, none; a line for each thing that is gone."""

    def create(
        self, name: str, modelfile: Modelfile, directory: Path, progress: Progress, wanted: Mapping[str, Any]
    ) -> None:
        """Make a model of a Modelfile whose paths begin at `directory`; `wanted` are options of `puna create`."""

    def pull(self, source: str, progress: Progress, *, name: str | None, force: bool) -> str:
        """Fetch a model; what it is called."""


def find_place() -> Place:
    """The server that PUNA_HOST or OLLAMA_HOST names, else this machine; PunaError where nothing listens there."""
    from puna.cli.remote import named_server

    server = named_server()
    return There(server) if server else Here()


class Here:
    """The store of this machine, and Ollama's."""

    def listed(self) -> Iterator[Listed]:
        """What `run` finds by name."""
        for name, manifest in _models():
            yield Listed(name.short, manifest.digest, manifest.size, manifest.modified)

    def shown(self, model: str) -> Shown:
        """As its headers say."""
        from puna.opened import open_model

        return open_model(model)

    def copy(self, source: str, target: str) -> None:
        """No bytes are copied."""
        from puna.store import Store

        Store().copy(source, target)

    def remove(self, names: Sequence[str]) -> Iterator[str]:
        """And the blobs that nothing else uses."""
        from puna.store import Store
        from puna.store.blobs import readable_size

        store = Store()
        for name in names:
            if not store.knows(name):
                store.manifest(name)  # says what is wrong, before anything is removed
        for name in names:
            unload(store, name)
            yield f"removed {name}, {readable_size(store.remove(name))} freed"
        with suppress(StoreError):  # a manifest that cannot be read keeps every blob, which is no failure of removing
            if freed := store.prune():
                yield f"removed what nothing uses, {readable_size(freed)} freed"

    def create(
        self, name: str, modelfile: Modelfile, directory: Path, progress: Progress, wanted: Mapping[str, Any]
    ) -> None:
        """In this process."""
        from puna.cli.pull import convert_shown
        from puna.create.build import create
        from puna.store import Store

        convert = partial(convert_shown, progress)
        create(Store(), name, modelfile, convert=convert, on_progress=progress, directory=directory, **wanted)

    def pull(self, source: str, progress: Progress, *, name: str | None, force: bool) -> str:
        """Into the store."""
        from puna.cli.pull import convert_shown
        from puna.create.fetching import fetch

        return fetch(source, progress, name=name, refresh=force, convert=partial(convert_shown, progress)).short


def _models() -> Iterator[tuple[ModelName, Manifest]]:
    """Every model that `run` finds by name; of one that cannot be read, a line on stderr says why."""
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


def unload(store: Store, name: str) -> None:
    """Have a running server let go of a model of this store; one that will not is told of, and keeps it for a while."""
    from puna.cli.remote import find_server

    try:
        server = find_server()
        loaded = server.loaded(name) if server and server.is_puna() else None
        if server and loaded and store.knows(name) and store.manifest(name).digest.endswith(loaded["digest"]):
            server.ask("POST", "/api/generate", {"model": name, "keep_alive": 0})
    except PunaError as error:
        click.echo(f"puna: {name} stays loaded: {error}", err=True)


@dataclass(frozen=True, slots=True)
class There:
    """The store of a server, through its API, which may be Ollama's own."""

    server: Server

    def listed(self) -> Iterator[Listed]:
        """As it says."""
        for model in self.server.ask("GET", "/api/tags").get("models") or ():
            when = datetime.fromisoformat(model["modified_at"]) if model.get("modified_at") else None
            yield Listed(model["name"], model["digest"], model["size"], when)

    def shown(self, model: str) -> Shown:
        """As it says; a file or directory, or what is not pulled yet, is looked at here."""
        from puna.cli.told import told
        from puna.store.reference import is_path

        if is_path(model):
            return Here().shown(model)
        return told(self.server.ask("POST", "/api/show", {"model": model, "verbose": True}))

    def copy(self, source: str, target: str) -> None:
        """There."""
        self.server.ask("POST", "/api/copy", {"source": source, "destination": target})

    def remove(self, names: Sequence[str]) -> Iterator[str]:
        """It does not say how much that frees."""
        for name in names:
            if self.server.digest(name) is None:
                raise ModelNotFound(f"{self.server}: model {name!r} not found; `puna list` shows those that are there")
        for name in names:
            self.server.ask("DELETE", "/api/delete", {"model": name})
            yield f"removed {name}"

    def create(
        self, name: str, modelfile: Modelfile, directory: Path, progress: Progress, wanted: Mapping[str, Any]
    ) -> None:
        """There, of files that are sent."""
        from puna.cli.sending import request

        given = {key: value for key, value in wanted.items() if value}
        quantize = given.pop("quantize", None)
        if given:
            option = f"--{next(iter(given)).replace('_', '-')}"
            raise RequestError(f"creating {name}: {option} is for this machine's store, not for {self.server}")
        asked = request(modelfile, directory, self.server, progress)
        self._follow("/api/create", {"model": name, **asked} | ({"quantize": quantize} if quantize else {}), progress)

    def pull(self, source: str, progress: Progress, *, name: str | None, force: bool) -> str:
        """There; the API knows no other name than that of the source, so it is renamed."""
        from puna.create.fetching import usual_name
        from puna.store.name import ModelName

        made = usual_name(source).short
        wanted = ModelName.parse(name).short if name else made
        had = wanted == made or self.server.digest(made) is not None
        self._follow("/api/pull", {"model": source, "force": force}, progress)
        if wanted != made:
            self.copy(made, wanted)
        if not had:
            self.server.ask("DELETE", "/api/delete", {"model": made})
        return wanted

    def _follow(self, path: str, body: Mapping[str, Any], progress: Progress) -> None:
        for line in self.server.stream(path, body):
            progress(str(line.get("status", "")), int(line.get("completed", 0)), int(line.get("total", 0)))
