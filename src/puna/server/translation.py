"""Requests of other APIs as the native ones that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from puna.server.anthropic.requests import Messages
from puna.server.anthropic.requests import to_chat as anthropic_chat
from puna.server.bodies import unfit
from puna.server.errors import Refused
from puna.server.ollama.answers import beside
from puna.server.openai.items import Responses
from puna.server.openai.items import to_chat as responses_chat
from puna.server.openai.requests import ChatCompletion, Completion, Embeddings, to_chat, to_generate
from puna.worker.requests import Embed, Generate


def _completion(ask: Completion) -> Generate:
    if not isinstance(ask.prompt, str):
        raise Refused(400, "prompt: one text stands for one native request")
    return to_generate(ask, ask.prompt)


def _embeddings(ask: Embeddings) -> Embed:
    given = [""] if ask.input == "" else ask.input  # an empty text is one, no input is none
    return Embed(model=ask.model, input=given, dimensions=ask.dimensions, **beside(ask))


TRANSLATORS: dict[str, tuple[type, Callable[[Any], object]]] = {
    "/v1/chat/completions": (ChatCompletion, to_chat),
    "/v1/completions": (Completion, _completion),
    "/v1/embeddings": (Embeddings, _embeddings),
    "/v1/responses": (Responses, responses_chat),
    "/v1/messages": (Messages, anthropic_chat),
}


def translate_request(endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a native request that a body for another endpoint means; Refused where it means nothing."""
    reads, translate = TRANSLATORS[endpoint]
    try:
        ask: Any = msgspec.convert(body, reads)
    except msgspec.ValidationError as error:
        raise Refused(400, f"reading the request: {unfit(str(error))}") from error
    native: dict[str, Any] = msgspec.to_builtins(translate(ask))
    native.pop("ask", None)
    return native
