"""What a client is told when something goes wrong: one table from error to status, and the form each API gives it.

A message never names a path of this machine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from puna.errors import PunaError
from puna.worker.client import Failure


class Refused(Exception):
    """An HTTP status and the reason; `headers` go with it."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


STATUS = {
    "PromptTooLong": 400,
    "RequestError": 400,
    "TemplateError": 400,
    "ModelfileError": 400,
    "InvalidName": 400,
    "FormatError": 400,
    "ConversionError": 400,
    "ModelError": 400,
    "UnknownArchitecture": 400,
    "TokenizerError": 400,
    "DigestMismatch": 400,
    "ModelNotFound": 404,
    "StoreError": 500,
    "BackendError": 500,
    "GraphError": 500,
    "Bug": 500,
    "WorkerDied": 503,
    "LoadTimeout": 504,
    "MemoryError": 507,
}
"""The status of each class of error, by its name, as a worker sends it."""

_PATH = re.compile(r"(?<![\w.:/@])(?:~|/[\w.@+~-]+)(?:/[\w.@+~-]+)+/?")


def status_of(error: BaseException) -> int:
    """The HTTP status that an error means; 500 for what nobody meant."""
    if isinstance(error, Refused):
        return error.status
    kind = error.kind if isinstance(error, Failure) else type(error).__name__
    return STATUS.get(kind, 500)


def message_of(error: BaseException) -> str:
    """What a client may read of an error: nothing of what nobody meant, and of a path its last part."""
    if not isinstance(error, Refused | Failure | PunaError):
        return "internal error; the log of the server has more"
    return _PATH.sub(_last_part, str(error))


def _last_part(path: re.Match[str]) -> str:
    """Of a path on this machine its last part; of one in a URL all of it."""
    here = path[0].startswith("~") or Path(*Path(path[0]).parts[:2]).exists()
    return Path(path[0]).name if here else path[0]


TRUNCATION = {
    "/api/": 'pass "truncate": true',
    "/v1/responses": 'pass "truncation": "auto"',
    "/v1/embeddings": 'pass "truncate": true',
    "/v1/rerank": 'pass "truncate": true',
}
"""How a request asks for truncation, by how its path begins; elsewhere it cannot."""


def for_path(message: str, path: str) -> str:
    """A message with what a request to a path has to say for truncation."""
    if _ASK not in message:
        return message
    how = next((how for begin, how in TRUNCATION.items() if path.startswith(begin)), "")
    return message.replace(_ASK, how) if how else message.replace(f" or {_ASK}", "").replace(f", {_ASK}", "")


_ASK = "ask for truncation"


def ollama_body(status: int, message: str) -> dict[str, Any]:
    """Ollama's form."""
    return {"error": message}


def openai_body(status: int, message: str) -> dict[str, Any]:
    """OpenAI's form."""
    return {"error": {"message": message, "type": _TYPES.get(status, "api_error"), "param": None, "code": None}}


def anthropic_body(status: int, message: str) -> dict[str, Any]:
    """Anthropic's form."""
    return {"type": "error", "error": {"type": _TYPES.get(status, "api_error"), "message": message}}


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}

BODIES = {"ollama": ollama_body, "openai": openai_body, "anthropic": anthropic_body}
"""The form of an error in each API."""
