"""What there is and what is loaded: `tags`, `ps`, `show`, `copy`, `delete`, `version`."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse, Response

from puna import __version__
from puna.errors import ModelNotFound
from puna.facts import facts
from puna.server import catalog
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused
from puna.server.models import Loaded
from puna.server.shapes.ollama import ShowAnswer, TagsAnswer, VersionAnswer
from puna.server.shapes.shape import TEXT, Shape
from puna.server.wire import json_reply
from puna.store import Store

FOREVER_SECONDS = 100 * 365 * 86400.0
"""How far away the end of what stays for ever is said to be."""


class Named(msgspec.Struct, kw_only=True):
    """A request about one model, which older clients call `name`."""

    model: str = ""
    name: str = ""

    @property
    def said(self) -> str:
        """The model's name; Refused where there is none."""
        if not (self.model or self.name):
            raise Refused(400, "model is required")
        return self.model or self.name


class Show(Named, kw_only=True):
    """With `verbose`, every tensor and the long lists of the metadata."""

    verbose: bool = False
    system: str = ""
    template: str = ""


class Copy(msgspec.Struct, kw_only=True):
    """Two names."""

    source: str = ""
    destination: str = ""


async def root(call: Call, ask: None) -> Response:
    """That the server runs."""
    return PlainTextResponse("Puna is running")


async def version(call: Call, ask: None) -> Response:
    """The version of Puna."""
    return json_reply({"version": __version__})


async def tags(call: Call, ask: None) -> Response:
    """The models there are, the youngest first."""
    found = await asyncio.to_thread(lambda: list(catalog.entries()))
    found.sort(key=lambda entry: entry.manifest.modified or datetime.fromtimestamp(0, UTC), reverse=True)
    return json_reply({"models": [_listed(entry) for entry in found]})


def _listed(entry: catalog.Entry) -> dict[str, Any]:
    name, when = entry.name.short, entry.manifest.modified
    return {
        "name": name,
        "model": name,
        "modified_at": when.isoformat() if when else "",
        "size": entry.manifest.size,
        "digest": entry.digest,
        "details": entry.details(),
    }


async def ps(call: Call, ask: None) -> Response:
    """The models that are loaded."""
    return json_reply({"models": [await _running(model) for model in call.server.models.loaded]})


async def _running(model: Loaded) -> dict[str, Any]:
    try:
        details = (await asyncio.to_thread(catalog.entry, model.wanted.name)).details()
    except Refused:  # deleted since, and still loaded
        details = {}
    ends = min(model.expires_at, time.time() + FOREVER_SECONDS)
    return {
        "name": model.wanted.name,
        "model": model.wanted.name,
        "size": model.wanted.size,
        "digest": model.wanted.digest,
        "details": details,
        "expires_at": datetime.fromtimestamp(ends, UTC).isoformat().replace("+00:00", "Z"),
        "size_vram": 0,
        "context_length": model.worker.ready.context_length,
        "backend": model.worker.ready.backend,
    }


async def show(call: Call, ask: Show) -> Response:
    """What a model is made of."""
    return json_reply(await asyncio.to_thread(_shown, ask.said, ask.verbose))


def _shown(name: str, verbose: bool) -> dict[str, Any]:
    entry = catalog.entry(name)
    opened = catalog.opened(str(entry.name), entry.digest)
    known = facts(opened, verbose=verbose) | {"details": entry.details()}
    return known | ({"modified_at": entry.manifest.modified.isoformat()} if entry.manifest.modified else {})


async def copy(call: Call, ask: Copy) -> Response:
    """Give a model a second name."""
    await asyncio.to_thread(catalog.entry, ask.source)  # or 404
    await asyncio.to_thread(Store().copy, ask.source, ask.destination)
    return Response(status_code=200)


async def delete(call: Call, ask: Named) -> Response:
    """Remove a model, and unload it once requests under way are answered."""
    name = (await asyncio.to_thread(catalog.entry, ask.said)).name.short
    try:
        await asyncio.to_thread(Store().remove, ask.said)
    except ModelNotFound as error:
        raise Refused(404, f"model '{ask.said}' not found") from error
    await call.server.models.unload(name)
    return Response(status_code=200)


ENDPOINTS = [
    Endpoint(method="GET", path="/", gives=Shape(others=(TEXT,)), run=root, scope=None, about="That the server runs."),
    Endpoint(
        method="GET", path="/api/version", gives=Shape(VersionAnswer), run=version, scope=None, about="The version."
    ),
    Endpoint(method="GET", path="/api/tags", gives=Shape(TagsAnswer), run=tags, about="The models there are."),
    Endpoint(method="GET", path="/api/ps", gives=Shape(TagsAnswer), run=ps, about="The models that are loaded."),
    Endpoint(
        method="POST", path="/api/show", gives=Shape(ShowAnswer), run=show, reads=Show, about="What a model is made of."
    ),
    Endpoint(
        method="POST",
        path="/api/copy",
        run=copy,
        reads=Copy,
        scope="manage",
        about="Give a model a second name.",
    ),
    Endpoint(
        method="DELETE",
        path="/api/delete",
        run=delete,
        reads=Named,
        scope="manage",
        about="Remove a model.",
    ),
]
