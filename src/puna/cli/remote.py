"""A running server as the command line asks it: JSON and streamed lines, with a server's errors as Puna's.

It knows addresses and keys, not what commands print.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from puna.errors import InvalidName, ModelNotFound, PunaError, RequestError, StoreError
from puna.store.name import ModelName
from puna.store.reference import is_path

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

CONNECT_SECONDS = 0.2
ANSWER_SECONDS = 5.0
"""How long what listens may take to say that it is Puna."""
OWN = ("127.0.0.1", "::1", "localhost")
"""How this machine is called."""
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

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float | None = None
    ) -> Any:
        """The JSON of an answer, {} of an empty one; ModelNotFound for 404, PunaError for any other failure, in the
        server's words.

        One that takes longer than `seconds` is a failure.
        """
        with closing(self._connection(seconds)) as connection:
            text = self._came(self._begun(connection, method, path, body).read)
            return _parsed(text, self) if text else {}

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The lines of an answer as they come; closing it ends the answer. Errors as `ask`, also between lines."""
        with closing(self._connection()) as connection:
            answer = self._begun(connection, "POST", path, body)
            while line := self._came(answer.readline):
                parsed = _parsed(line, self)
                if "error" in parsed:
                    raise PunaError(f"{self}: {parsed['error']}")
                yield parsed

    def holds(self, path: str) -> bool:
        """Whether there is something at a path. Errors as `ask`, but for 404."""
        with closing(self._connection()) as connection:
            try:
                self._begun(connection, "HEAD", path, None).close()
            except ModelNotFound:
                return False
            return True

    def send(self, path: str, pieces: Iterable[bytes], size: int) -> None:
        """Post bytes, so many in all. Errors as `ask`."""
        with closing(self._connection()) as connection:
            self._came(self._begun(connection, "POST", path, pieces, {"Content-Length": str(size)}).read)

    def digest(self, model: str) -> str | None:
        """The digest of its model by this name; None where it has none, or this is no name."""
        found = _by_name(self.ask("GET", "/api/tags").get("models", ()), model)
        return str(found["digest"]) if found else None

    def loaded(self, model: str) -> Mapping[str, Any] | None:
        """What `/api/ps` says of the model by this name; None where it is not loaded."""
        return _by_name(self.ask("GET", "/api/ps").get("models", ()), model)

    def is_puna(self) -> bool:
        """Whether it is a server of Puna's."""
        try:
            return "status" in self.ask("GET", "/health", seconds=ANSWER_SECONDS)
        except PunaError:
            return False

    def _connection(self, seconds: float | None = None) -> HTTPConnection:
        from http import client  # which takes a while, and nothing may listen

        return (client.HTTPSConnection if self.tls else client.HTTPConnection)(self.host, self.port, timeout=seconds)

    def _begun(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | Iterable[bytes] | None,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> HTTPResponse:
        """An answer whose body is still to be read; `more` are headers."""
        kind = "application/json" if isinstance(body, Mapping) else "application/octet-stream"
        headers = {"Content-Type": kind, **more} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        try:
            data = json.dumps(body).encode() if isinstance(body, Mapping) else body
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            if answer.status < 400:
                return answer
            text = answer.read()
        except _broken() as error:
            raise _lost(self, error) from error
        raise ERRORS.get(answer.status, PunaError)(f"{self}: {_said(text) or f'status {answer.status}'}")

    def _came(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except _broken() as error:
            raise _lost(self, error) from error


def _broken() -> tuple[type[Exception], ...]:
    """What a connection that breaks raises."""
    from http.client import HTTPException

    return OSError, HTTPException


def _by_name(models: Iterable[Mapping[str, Any]], wanted: str) -> Mapping[str, Any] | None:
    """The one among models in Ollama's form that has a name, however that is spelled."""
    try:
        name = ModelName.parse(wanted)
    except InvalidName:
        return None
    return next((model for model in models if name.matches(ModelName.parse(model["name"]))), None)


ERRORS: dict[int, type[PunaError]] = {400: RequestError, 404: ModelNotFound}


def find_server(environ: Mapping[str, str] = os.environ) -> Server | None:
    """The server at PUNA_HOST or OLLAMA_HOST, or this machine's usual one; None where nothing listens."""
    server = server_address(environ)
    try:
        seconds = CONNECT_SECONDS if server.host in OWN else ANSWER_SECONDS
        socket.create_connection((server.host, server.port), seconds).close()
    except OSError:
        return None
    return server


def named_server(environ: Mapping[str, str] = os.environ) -> Server | None:
    """The server whose models commands act on: at PUNA_HOST, or at OLLAMA_HOST on another machine; else None.

    Where a server listens everywhere (0.0.0.0) is no address of one. PunaError where nothing listens.
    """
    named = environ.get("PUNA_HOST", "").strip()
    text = named or environ.get("OLLAMA_HOST", "").strip()
    if not text:
        return None
    server = server_address(environ)
    if _everywhere(text) or (not named and server.host in OWN):
        return None
    return require_server(environ)


def _everywhere(text: str) -> bool:
    from puna.server.address import parse_host

    return parse_host(text)["host"] in EVERYWHERE


def find_host(model: str, environ: Mapping[str, str] = os.environ) -> tuple[Server | None, tuple[str, ...]]:
    """The server that is to compute for a model, None for this process; and why not the server that there is.

    A server that PUNA_HOST names is taken at its word. The usual one has to be Puna's, and where a model of that name
    is here as well, it has to be the same.
    """
    if is_path(model) or (server := find_server(environ)) is None:
        return None, ()
    named = bool(environ.get("PUNA_HOST", "").strip())
    if not named and not server.is_puna():
        return None, (f"what listens at {server} is not Puna; PUNA_HOST={server} asks it all the same",)
    try:
        theirs = server.digest(model)
    except PunaError as error:  # a key may be needed
        if named:
            raise
        return None, (str(error),)
    if theirs is None:
        return None, (f"the server at {server} has no model {model!r}",)
    if not named and _digest_here(model) not in (None, theirs):
        return None, (f"the server at {server} has another model {model!r}; PUNA_HOST={server} asks for that one",)
    return server, ()


def _digest_here(model: str) -> str | None:
    """The digest of a model that this machine has by that name."""
    from puna.store.sources import find_model

    try:
        return find_model(ModelName.parse(model))[1].digest.removeprefix("sha256:")
    except (StoreError, ModelNotFound):
        return None


def require_server(environ: Mapping[str, str] = os.environ) -> Server:
    """The server; PunaError where nothing listens."""
    if server := find_server(environ):
        return server
    raise PunaError(f"no server listens at {server_address(environ)}; puna serve starts one, PUNA_HOST names another")


def server_address(environ: Mapping[str, str]) -> Server:
    """Where a server would be, by PUNA_HOST, OLLAMA_HOST and PUNA_API_KEY; RequestError for what is no address."""
    from puna.server.address import parse_host

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
