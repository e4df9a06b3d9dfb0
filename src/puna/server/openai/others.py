"""`/v1/embeddings` and `/v1/models`."""

from __future__ import annotations

import asyncio
import base64
from datetime import datetime
from typing import Any

import numpy as np
from starlette.responses import Response

from puna.server import catalog
from puna.server.anthropic import models as anthropic
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused
from puna.server.ollama.answers import beside, vectors_of
from puna.server.openai.requests import Embeddings
from puna.server.shapes.openai import EmbeddingsAnswer, ModelAnswer, ModelsAnswer
from puna.server.shapes.shape import Shape
from puna.server.wire import json_reply
from puna.worker.requests import Addressed

FORMATS = ("float", "base64")


async def embeddings(call: Call, ask: Embeddings) -> Response:
    """Vectors of texts or of token ids."""
    form = (ask.encoding_format or "float").lower()
    if form not in FORMATS:
        supported = f"Supported values: {list(FORMATS)}."
        raise Refused(400, f"Invalid value for 'encoding_format' = {ask.encoding_format}. {supported}")
    texts = texts_of(ask.input)
    vectors, tokens = await vectors_of(
        call, Addressed(model=ask.model), texts, ask.truncate is not False, ask.dimensions, beside(ask)
    )
    data = [{"object": "embedding", "embedding": _written(row, form), "index": i} for i, row in enumerate(vectors)]
    counts = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_reply({"object": "list", "data": data, "model": ask.model, "usage": counts})


def texts_of(given: Any) -> list[Any]:
    """The texts, or lists of token ids, of an input; Refused for what is neither."""
    texts = (
        [given] if isinstance(given, str) or (isinstance(given, list) and given and type(given[0]) is int) else given
    )
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str | list) for text in texts):
        raise Refused(400, "invalid input; a text, a list of token ids, or a list of either would work")
    return texts


def _written(row: np.ndarray[Any, np.dtype[np.float32]], form: str) -> list[float] | str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode() if form == "base64" else row.tolist()


async def models(call: Call, ask: None) -> Response:
    """The models there are, in the form of whose client asks."""
    found = await asyncio.to_thread(lambda: list(catalog.entries()))
    if anthropic.asked_for(call.http.headers):
        return json_reply(anthropic.page(found))
    return json_reply({"object": "list", "data": [_model(entry, entry.name.short) for entry in found]})


async def model(call: Call, ask: None) -> Response:
    """One model."""
    name = call.http.path_params["model"]
    form = anthropic.model if anthropic.asked_for(call.http.headers) else _model
    return json_reply(form(await asyncio.to_thread(catalog.entry, name), name))


def _model(entry: catalog.Entry, name: str) -> dict[str, Any]:
    when: datetime | None = entry.manifest.modified
    created = int(when.timestamp()) if when else 0
    return {"id": name, "object": "model", "created": created, "owned_by": entry.name.namespace}


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/embeddings",
        gives=Shape(EmbeddingsAnswer),
        run=embeddings,
        reads=Embeddings,
        api="openai",
        about="Vectors of texts.",
    ),
    Endpoint(
        method="GET",
        path="/v1/models",
        gives=Shape(ModelsAnswer),
        run=models,
        api="openai",
        about="The models there are.",
    ),
    Endpoint(
        method="GET",
        path="/v1/models/{model:path}",
        gives=Shape(ModelAnswer),
        run=model,
        api="openai",
        about="One model.",
    ),
]
