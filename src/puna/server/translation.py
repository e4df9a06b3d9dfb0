"""Requests of other APIs as the native ones that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from puna.server.errors import Refused
from puna.server.openai.requests import ChatCompletion, Completion, Embeddings, to_chat, to_generate
from puna.worker.requests import Embed

TRANSLATORS: dict[str, tuple[type, Callable[[Any], object]]] = {
    "/v1/chat/completions": (ChatCompletion, to_chat),
    "/v1/completions": (Completion, lambda ask: to_generate(ask, ask.prompt)),
    "/v1/embeddings": (Embeddings, lambda ask: Embed(model=ask.model, input=ask.input, dimensions=ask.dimensions)),
}


def translate_request(endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a native request that a body for another endpoint means; Refused where it means nothing."""
    reads, translate = TRANSLATORS[endpoint]
    try:
        ask = msgspec.convert(body, reads)
    except msgspec.ValidationError as error:
        raise Refused(400, f"reading the request: {error}") from error
    native: dict[str, Any] = msgspec.to_builtins(translate(ask))
    native.pop("ask", None)
    return native
