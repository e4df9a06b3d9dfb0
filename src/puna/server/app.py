"""The server as one ASGI application: the tables of all APIs, and what lives as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path

from puna.server import own, prefixes
from puna.server.access import Access
from puna.server.anthropic import messages
from puna.server.endpoints import Call, Endpoint, failed, serve
from puna.server.errors import Refused
from puna.server.ollama import answers, library, making
from puna.server.openai import completions, others, responses, stored, texts
from puna.server.openapi import document
from puna.server.server import Server
from puna.server.settings import Settings
from puna.server.shapes.shape import Shape
from puna.server.wire import json_reply

TABLES = (answers, library, making, own, prefixes, completions, texts, stored, responses, others, messages)


async def openapi(call: Call, ask: None) -> Response:
    """Everything that can be asked for, as OpenAPI describes it."""
    return json_reply(document(ENDPOINTS))


ENDPOINTS: list[Endpoint] = [
    *(endpoint for table in TABLES for endpoint in table.ENDPOINTS),
    Endpoint(
        method="GET", path="/openapi.json", gives=Shape(dict), run=openapi, scope=None, about="What can be asked for."
    ),
]
"""Everything that can be asked for."""

FORMS = {"/v1/messages": "anthropic", "/v1/": "openai"}
"""Whose form errors have that no endpoint answers, by how a path begins."""


def make_app(settings: Settings) -> Starlette:
    """The application; loopback and keys are checked as `settings` say."""
    server = Server(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        expiring = asyncio.create_task(server.models.expire())
        try:
            yield
        finally:
            expiring.cancel()
            with suppress(asyncio.CancelledError):
                await expiring
            await server.models.close()

    routes = [Route(e.path, serve(server, e), methods=[e.method]) for e in ENDPOINTS]
    scopes = {(e.method, compile_path(e.path)[0]): e.scope for e in ENDPOINTS}
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Access, settings, scopes, FORMS)],
        exception_handlers={404: _unknown, 405: _unknown},
    )
    app.state.server = server
    return app


async def _unknown(http: Request, error: Exception) -> Response:
    form = next((api for start, api in FORMS.items() if http.url.path.startswith(start)), "ollama")
    status = getattr(error, "status_code", 404)
    reason = "is not here" if status == 404 else f"does not take {http.method}"
    return failed(form, Refused(status, f"{http.url.path} {reason}; /openapi.json has what there is"))
