"""How answers leave: one JSON value, lines of JSON, or server-sent events; and work ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
Event = tuple[str | None, object]
"""A server-sent event: its name, if it has one, and its data, which goes out as JSON unless it is text."""

_encode = msgspec.json.Encoder().encode


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """One JSON value."""
    return Response(_encode(value), status, headers, media_type="application/json; charset=utf-8")


class Streamed(Response):
    """Frames of a body as they come. Their source is closed when it is through, or as soon as the client is gone."""

    def __init__(self, frames: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(None, 200, {"content-type": media_type, "cache-control": "no-cache"})
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the frames."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await until_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        with suppress(OSError):  # the client left between two frames
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def until_gone(receive: Receive, work: Awaitable[T]) -> T | None:
    """What `work` gives; None if the client leaves before, and then the work is cancelled."""
    running = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        running.cancel()
        gone.cancel()
        await asyncio.gather(running, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def begun(values: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same values, once the first is there: what goes wrong before it is raised here, not in the stream."""
    try:
        first = [await anext(values)]
    except StopAsyncIteration:
        first = []

    async def joined() -> AsyncGenerator[T, None]:
        async with aclosing(values):
            for value in first:
                yield value
            async for value in values:
                yield value

    return joined()


def ndjson(values: AsyncGenerator[Any, None], failed: Callable[[Exception], object]) -> Streamed:
    """A line of JSON a value; an error in their midst becomes a last line, as `failed` puts it."""

    async def frames() -> AsyncGenerator[bytes, None]:
        async with aclosing(_guarded(values, failed)) as source:
            async for value in source:
                yield _encode(value) + b"\n"

    return Streamed(frames(), "application/x-ndjson")


def sse(events: AsyncGenerator[Event, None], failed: Callable[[Exception], Event]) -> Streamed:
    """Server-sent events; an error in their midst becomes a last one, as `failed` puts it."""

    async def frames() -> AsyncGenerator[bytes, None]:
        async with aclosing(_guarded(events, failed)) as source:
            async for name, data in source:
                body = data.encode() if isinstance(data, str) else _encode(data)
                yield (f"event: {name}\n".encode() if name else b"") + b"data: " + body + b"\n\n"

    return Streamed(frames(), "text/event-stream")


async def _guarded(values: AsyncGenerator[T, None], failed: Callable[[Exception], T]) -> AsyncGenerator[T, None]:
    async with aclosing(values):
        try:
            async for value in values:
                yield value
        except Exception as error:
            yield failed(error)
