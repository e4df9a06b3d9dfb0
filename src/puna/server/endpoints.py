"""An endpoint: a path, what is read from a request to it, and what runs. The tables of all APIs are made of these."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from puna.errors import PunaError
from puna.server.bodies import decoded, decoder_of
from puna.server.errors import BODIES, Refused, for_path, message_of, status_of
from puna.server.server import Server
from puna.server.shapes.shape import NOTHING, Shape
from puna.server.wire import json_reply, until_gone
from puna.worker.client import Failure

_log = logging.getLogger("puna.server")


@dataclass(frozen=True, slots=True)
class Call:
    """One request under way: the server, and who asks."""

    server: Server
    http: Request
    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`reads` is the type of the body, None where `run` reads it by itself, if there is one; `gives` what answers hold.

    `scope` is what a key must allow, None where none is needed; `api` is whose form errors have.
    """

    method: str
    path: str
    run: Callable[[Call, Any], Awaitable[Response]]
    about: str
    reads: type | None = None
    gives: Shape = NOTHING
    scope: str | None = "infer"
    api: str = "ollama"


def serve(server: Server, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """The function that answers requests to an endpoint; what goes wrong is said in the form of its API."""
    decoder = decoder_of(endpoint.reads) if endpoint.reads else None

    async def run(http: Request) -> Response:
        try:
            call = Call(server, http, client_of(http))
            if decoder is None:
                return await endpoint.run(call, None)
            ask = decoded(decoder, await body_of(http, server.settings.body))
            reply = await until_gone(http.receive, endpoint.run(call, ask))
            return Response(status_code=499) if reply is None else reply
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:
            server.metrics.failed(status_of(error))
            return failed(endpoint.api, error, endpoint.path)

    return run


async def body_of(http: Request, most: int) -> bytes:
    """The whole body; Refused with 413 where it has more than `most` bytes."""
    parts, size = [], 0
    async for part in http.stream():
        size += len(part)
        if size > most:
            raise Refused(413, f"the request has more than {most} bytes; PUNA_MAX_BODY raises the limit")
        parts.append(part)
    return b"".join(parts)


def failed(api: str, error: Exception, path: str = "") -> Response:
    """The answer that says what went wrong with a request to a path."""
    status, message = status_of(error), for_path(message_of(error), path)
    if not isinstance(error, Refused | Failure | PunaError):
        _log.error("a bug", exc_info=error)
    headers = error.headers if isinstance(error, Refused) else {}
    return json_reply(BODIES[api](status, message), status, headers)


def client_of(http: Request) -> str:
    """Who asks: by key, else by address."""
    return key_of(http) or (http.client.host if http.client else "")


def key_of(http: Request) -> str:
    """The key that a request carries, or nothing."""
    kind, _, token = http.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else http.headers.get("x-api-key", "")
