"""A running server as the command line asks it: JSON and streamed lines, with a server's errors as Puna's.

It knows addresses and keys, not what commands print.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from puna.errors import ModelNotFound, PunaError, RequestError

CONNECT_SECONDS = 0.2
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What a server listens on that cannot be asked, and what reaches it on this machine."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens, and the key it is asked with, "" for none."""

    host: str
    port: int
    tls: bool = False
    key: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an answer; ModelNotFound for 404, PunaError for any other failure, in the server's words."""
        with closing(self._connection()) as connection:
            return _parsed(self._came(self._begun(connection, method, path, body).read), self)

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The lines of an answer as they come; closing it ends the answer. Errors as `ask`, also between lines."""
        with closing(self._connection()) as connection:
            answer = self._begun(connection, "POST", path, body)
            while line := self._came(answer.readline):
                parsed = _parsed(line, self)
                if "error" in parsed:
                    raise PunaError(f"{self}: {parsed['error']}")
                yield parsed

    def has(self, model: str) -> bool:
        """Whether it has a model by this name."""
        try:
            self.ask("POST", "/api/show", {"model": model})
        except (ModelNotFound, RequestError):  # or this is no name, but a path
            return False
        return True

    def _connection(self) -> HTTPConnection:
        return (HTTPSConnection if self.tls else HTTPConnection)(self.host, self.port)

    def _begun(
        self, connection: HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None
    ) -> HTTPResponse:
        """An answer whose body is still to be read."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            if answer.status < 400:
                return answer
            text = answer.read()
        except (OSError, HTTPException) as error:
            raise _lost(self, error) from error
        raise ERRORS.get(answer.status, PunaError)(f"{self}: {_said(text) or f'status {answer.status}'}")

    def _came(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except (OSError, HTTPException) as error:
            raise _lost(self, error) from error


ERRORS: dict[int, type[PunaError]] = {400: RequestError, 404: ModelNotFound}


def find_server(environ: Mapping[str, str] = os.environ) -> Server | None:
    """The server at PUNA_HOST or OLLAMA_HOST, or this machine's usual one; None where nothing listens."""
    server = server_address(environ)
    try:
        socket.create_connection((server.host, server.port), CONNECT_SECONDS).close()
    except OSError:
        return None
    return server


def require_server() -> Server:
    """The server; PunaError where nothing listens."""
    if server := find_server():
        return server
    raise PunaError(
        f"no server listens at {server_address(os.environ)}; puna serve starts one, PUNA_HOST names another"
    )


def server_address(environ: Mapping[str, str]) -> Server:
    """Where a server would be, by PUNA_HOST, OLLAMA_HOST and PUNA_API_KEY; RequestError for what is no address."""
    from puna.server.settings import parse_host

    name = next((n for n in ("PUNA_HOST", "OLLAMA_HOST") if environ.get(n, "").strip()), "")
    text = environ[name].strip() if name else ""
    try:
        where = parse_host(text)
    except ValueError as error:
        raise RequestError(f"{name}: {text!r} is no address ({error}); HOST:PORT would work") from error
    host = EVERYWHERE.get(str(where["host"]), str(where["host"]))
    return Server(host, int(str(where["port"])), urlsplit(text).scheme == "https", environ.get("PUNA_API_KEY", ""))


def _parsed(text: bytes, server: Server) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise PunaError(f"{server}: what answers there is not JSON: {text[:60]!r}; PUNA_HOST names a server") from error
    return parsed if isinstance(parsed, dict) else {}


def _said(text: bytes) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _lost(server: Server, error: Exception) -> PunaError:
    return PunaError(
        f"{server}: the connection broke ({str(error) or type(error).__name__}); is the server still there?"
    )
