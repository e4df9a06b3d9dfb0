"""Beginnings of prompts on disk, in a folder of the store: saved by name, and brought back into a model.

Clients name them and never a path. What is in such a file is not known here.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.responses import Response

from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused
from puna.server.shapes.shape import Shape
from puna.server.wire import json_reply
from puna.store import Store
from puna.worker.requests import Addressed, LoadPrefix, SavePrefix

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SUFFIX = ".safetensors"


class Beginning(Addressed, kw_only=True):
    """Messages, rendered without the beginning of an answer, with `tools`; or a prompt, text or tokens as they are."""

    prompt: str | list[int] = ""
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None


def folder() -> Path:
    """Where they are."""
    return Store().root / "prefixes"


async def listed(call: Call, ask: None) -> Response:
    """The prefixes there are, with their sizes in bytes."""
    return json_reply({"prefixes": await asyncio.to_thread(_listed)})


async def save(call: Call, ask: Beginning) -> Response:
    """Compute what a beginning comes to and keep it; how many tokens it has."""
    if not ask.messages and not ask.prompt:
        raise Refused(400, "saving a prefix: there are no messages and no prompt; either would work")
    name, path = _named(call)
    await asyncio.to_thread(lambda: path.parent.mkdir(parents=True, exist_ok=True))
    common = {"model": ask.model, "keep_alive": ask.keep_alive, "options": ask.options, "path": str(path)}
    wanted = SavePrefix(prompt=ask.prompt, messages=ask.messages, tools=ask.tools, **common)  # type: ignore[arg-type]
    value = await call.server.value(wanted, call.client)
    return json_reply({"name": name, "model": ask.model, **value})


async def load(call: Call, ask: Addressed) -> Response:
    """Bring a prefix back into a model, which then goes on from there; how many tokens it has."""
    name, path = await _there(call)
    wanted = LoadPrefix(model=ask.model, keep_alive=ask.keep_alive, options=ask.options, path=str(path))
    value = await call.server.value(wanted, call.client)
    return json_reply({"name": name, "model": ask.model, **value})


async def delete(call: Call, ask: None) -> Response:
    """Remove a prefix."""
    _, path = await _there(call)
    await asyncio.to_thread(lambda: path.unlink(missing_ok=True))
    return Response(status_code=200)


def _listed() -> list[dict[str, Any]]:
    files = [(path, path.stat()) for path in sorted(folder().glob(f"*{SUFFIX}"))]
    return [
        {
            "name": path.name.removesuffix(SUFFIX),
            "size": stat.st_size,
            "modified_at": datetime.fromtimestamp(stat.st_mtime, UTC).isoformat().replace("+00:00", "Z"),
        }
        for path, stat in files
    ]


def _named(call: Call) -> tuple[str, Path]:
    name = call.http.path_params["name"]
    if not NAME.fullmatch(name):
        raise Refused(
            400, f"prefix {name!r}: letters, digits and . _ - make a name, up to 100, a letter or digit first"
        )
    return name, folder() / f"{name}{SUFFIX}"


async def _there(call: Call) -> tuple[str, Path]:
    name, path = _named(call)
    if not await asyncio.to_thread(path.is_file):
        raise Refused(404, f"prefix {name!r} not found; GET /api/prefixes lists those that there are")
    return name, path


_ONE = "/api/prefixes/{name}"
ENDPOINTS = [
    Endpoint(
        method="GET", path="/api/prefixes", gives=Shape(dict), run=listed, scope="manage", about="The prefixes on disk."
    ),
    Endpoint(
        method="PUT",
        path=_ONE,
        gives=Shape(dict),
        run=save,
        reads=Beginning,
        scope="manage",
        about="Compute a prefix and save it.",
    ),
    Endpoint(
        method="POST",
        path=f"{_ONE}/load",
        gives=Shape(dict),
        run=load,
        reads=Addressed,
        scope="manage",
        about="Bring one back.",
    ),
    Endpoint(method="DELETE", path=_ONE, run=delete, scope="manage", about="Remove a prefix."),
]
