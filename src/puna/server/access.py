"""Who may ask: by the name they reach the server by, by the page they come from, by key. One piece of ASGI.

A page of another origin is let in if it is local or listed; a name that is not this machine's is refused while the
server listens on loopback alone, so that no page can reach it by a name it made up.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from puna.server.endpoints import failed, key_of
from puna.server.errors import Refused
from puna.server.settings import Settings

LOCAL_NAMES = ("localhost",)
LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
LOCAL_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
ALLOWED_HEADERS = "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, X-Api-Key, Anthropic-Version"


class Access:
    """Lets through what `settings` allow; `scopes` are what keys must allow, by method and path."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        scopes: Mapping[tuple[str, re.Pattern[str]], str | None],
        api: Mapping[str, str],
    ) -> None:
        self._app = app
        self._settings = settings
        self._scopes = scopes
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or says why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        http = Request(scope)
        origin = http.headers.get("origin", "")
        try:
            self._check(http, origin)
        except Refused as error:
            await failed(self._form(http), error)(scope, receive, send)
            return
        if http.method == "OPTIONS":
            await Response(status_code=204, headers=_cors(origin) | PREFLIGHT)(scope, receive, send)
            return
        await self._app(scope, receive, _spelled(send, origin))

    def _check(self, http: Request, origin: str) -> None:
        if self._settings.loopback and not local_host(http.headers.get("host", "")):
            raise Refused(403, "this name does not belong to the server; 127.0.0.1 and localhost would work")
        if origin and not self._allowed(origin, http.headers):
            raise Refused(403, f"origin {origin} is not allowed; PUNA_ORIGINS lists those that are")
        if http.method != "OPTIONS" and self._settings.keys:
            self._check_key(http)

    def _allowed(self, origin: str, headers: Headers) -> bool:
        parts = urlsplit(origin)
        own = parts.netloc == headers.get("host", "")
        local = parts.scheme in LOCAL_SCHEMES or (parts.hostname or "") in (*LOCAL_NAMES, "127.0.0.1", "0.0.0.0", "::1")
        return own or local or any(_matches(origin, allowed) for allowed in self._settings.origins)

    def _check_key(self, http: Request) -> None:
        needed = self._needed(http)
        if needed is None:
            return
        given = key_of(http).encode()
        scope = next((s for key, s in self._settings.keys.items() if hmac.compare_digest(key.encode(), given)), None)
        if scope is None:
            raise Refused(401, "an API key is needed: `Authorization: Bearer KEY`")
        if needed == "manage" and scope != "manage":
            raise Refused(403, f"this key may only {scope}; one that may manage would work")

    def _needed(self, http: Request) -> str | None:
        for (method, path), scope in self._scopes.items():
            if method == http.method and path.fullmatch(http.url.path):
                return scope
        return "manage"

    def _form(self, http: Request) -> str:
        return next((api for start, api in self._api.items() if http.url.path.startswith(start)), "ollama")


PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS",
    "access-control-allow-headers": ALLOWED_HEADERS,
    "access-control-max-age": "43200",
}


def local_host(host: str) -> bool:
    """Whether a Host header means this machine: an address, `localhost`, or a name that no public one can be."""
    name = urlsplit(f"//{host}").hostname or ""
    if not name or name in LOCAL_NAMES or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _matches(origin: str, allowed: str) -> bool:
    return re.fullmatch(re.escape(allowed).replace(r"\*", ".*"), origin) is not None


def _cors(origin: str) -> dict[str, str]:
    return {"access-control-allow-origin": origin, "vary": "Origin"} if origin else {}


def _spelled(send: Send, origin: str) -> Send:
    """Adds the headers for `origin`, and spells all as Go does: there are clients that look for `Content-Type`."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_cors(origin))
            message["headers"] = [(name.title(), value) for name, value in message["headers"]]
        await send(message)

    return sending
