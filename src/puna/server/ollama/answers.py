"""`/api/generate`, `/api/chat`, `/api/embed` and `/api/embeddings`: answers in Ollama's form."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec import Struct
from starlette.responses import Response

from puna.generation import Chunk, Logprob, Stats
from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused, message_of
from puna.server.server import keep_alive
from puna.server.shapes.ollama import ChatAnswer, EmbedAnswer, EmbeddingAnswer, GenerateAnswer
from puna.server.shapes.shape import NDJSON, Shape
from puna.server.tools import offered
from puna.server.wire import begun, json_reply, ndjson
from puna.worker.protocol import Prompted
from puna.worker.requests import Addressed, Chat, Embed, Generate, Lora, Render, RenderPrompt


class Embedding(Addressed, kw_only=True):
    """The older request for one vector."""

    prompt: str = ""


class EmbedRequest(Addressed, kw_only=True):
    """`input` is a text or a list of texts; what follows `dimensions` Ollama's own request does not have."""

    input: Any = None
    truncate: bool | None = None
    dimensions: int | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    input_type: str | None = None
    normalize: bool | None = None
    lora: list[Lora] | None = None


async def chat(call: Call, ask: Chat) -> Response:
    """Answer a conversation; without messages, load the model, or with keep_alive 0 unload it."""
    lower_roles(ask.messages or [])
    offer = offered(ask.tools, ask.tool_choice, ask.parallel_tool_calls)
    ask.tools, ask.tool_choice, ask.parallel_tool_calls, allowed = offer
    ask.allowed_tools = allowed or ask.allowed_tools
    return await _answered(call, ask, empty=not ask.messages)


async def generate(call: Call, ask: Generate) -> Response:
    """Continue a prompt; without one, load the model, or with keep_alive 0 unload it."""
    if ask.images:
        raise Refused(400, f"{ask.model!r} does not support images")
    return await _answered(call, ask, empty=not ask.prompt and not ask.suffix)


async def _answered(call: Call, ask: Chat | Generate, *, empty: bool) -> Response:
    keep_alive(ask)  # which may be no length of time
    if empty:
        return await _loaded(call, ask)
    await call.server.check(ask)
    if ask.debug_render_only:
        return await _rendered(call, ask)
    lines = _lines(call, ask)
    if ask.stream is False:
        return json_reply(await _whole(ask, lines))
    return ndjson(await begun(lines), lambda error: {"error": message_of(error)})


async def _loaded(call: Call, ask: Chat | Generate) -> Response:
    unload = keep_alive(ask) == 0
    if unload:
        await call.server.unload(ask)
    else:
        await call.server.load(ask)
    reason = {"done": True, "done_reason": "unload" if unload else "load"}
    return json_reply(_head(ask) | _said(ask, {"content": ""}) | reason)


async def _rendered(call: Call, ask: Chat | Generate) -> Response:
    kind = Render if isinstance(ask, Chat) else RenderPrompt
    wanted = kind(**{field: getattr(ask, field) for field in ask.__struct_fields__})
    value = await call.server.value(wanted, call.client)
    return json_reply(_head(ask) | {"_debug_info": {"rendered_template": value["prompt"], "image_count": 0}})


async def _lines(call: Call, ask: Chat | Generate) -> AsyncGenerator[dict[str, Any], None]:
    """A line for each piece of an answer, and the last one with figures."""
    begin, calls, tokens = time.perf_counter_ns(), 0, list[int]()
    dropped: dict[str, int] = {}
    async with aclosing(call.server.answer(ask, call.client)) as chunks:
        async for chunk in chunks:
            if isinstance(chunk, Prompted):
                tokens, dropped = chunk.tokens, dict(chunk.dropped)
                continue
            tokens += chunk.tokens
            if said := _pieces(chunk, calls):
                calls += len(chunk.tool_calls)
                yield _head(ask) | _said(ask, said) | _logprobs(chunk.logprobs) | {"done": False}
            if chunk.done:
                context = {"context": tokens} if isinstance(ask, Generate) and not ask.raw else {}
                if chunk.stats and chunk.stats.dropped_tokens:
                    dropped["tokens"] = dropped.get("tokens", 0) + chunk.stats.dropped_tokens
                missing = {"dropped": dropped} if dropped else {}
                end = {"done": True, "done_reason": chunk.done_reason} | context | missing
                figures = _figures(chunk.stats, time.perf_counter_ns() - begin) if chunk.stats else {}
                yield _head(ask) | _said(ask, {"content": ""}) | end | figures


async def _whole(ask: Chat | Generate, lines: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any]:
    """All lines as one."""
    texts: dict[str, str] = {}
    calls: list[Any] = []
    logprobs: list[Any] = []
    last: dict[str, Any] = {}
    async with aclosing(lines):
        async for line in lines:
            last, part = line, line["message"] if isinstance(ask, Chat) else line
            for field in ("thinking", "content", "response"):
                if field in part:
                    texts[field] = texts.get(field, "") + part[field]
            calls += part.get("tool_calls", ())
            logprobs += line.get("logprobs", ())
    more = {"tool_calls": calls} if calls else {}
    said = last["message"] | texts | more if isinstance(ask, Chat) else {}
    whole = {"message": said} if said else texts | more
    return last | whole | ({"logprobs": logprobs} if logprobs else {})


def _head(ask: Addressed) -> dict[str, Any]:
    return {"model": ask.model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def _pieces(chunk: Chunk, calls: int) -> dict[str, Any]:
    """What a chunk says; {} where it says nothing."""
    said: dict[str, Any] = {"content": chunk.text} if chunk.text or chunk.thinking or chunk.tool_calls else {}
    if chunk.thinking:
        said["thinking"] = chunk.thinking
    if chunk.tool_calls:
        said["tool_calls"] = [tool_call(each, calls + i) for i, each in enumerate(chunk.tool_calls)]
    return said


def tool_call(said: Any, index: int) -> dict[str, Any]:
    """A call in Ollama's form, with an identity of its own where the model gave none."""
    function = {"index": index, "name": said["name"], "arguments": said["arguments"]}
    return {"id": said.get("id") or f"call_{secrets.token_hex(4)}", "function": function}


def _said(ask: Addressed, said: dict[str, Any]) -> dict[str, Any]:
    if isinstance(ask, Chat):
        return {"message": {"role": "assistant"} | said}
    return {"response" if name == "content" else name: value for name, value in said.items()}


def _logprobs(logprobs: Sequence[Logprob]) -> dict[str, Any]:
    return {"logprobs": [logprob(each) for each in logprobs]} if logprobs else {}


def logprob(each: Logprob) -> dict[str, Any]:
    """A token's probability as Ollama and OpenAI write it."""
    own = {"token": each.text, "logprob": each.logprob, "bytes": list(each.spelling)}
    return own | {"top_logprobs": [logprob(other) for other in each.top]} if each.top else own


def _figures(stats: Stats, total: int) -> dict[str, int]:
    """Nanoseconds and tokens."""
    return {
        "total_duration": total,
        "load_duration": nanoseconds(stats.load_seconds),
        "prompt_eval_count": stats.prompt_tokens,
        "prompt_cached_count": stats.cached_tokens,
        "prompt_eval_duration": nanoseconds(stats.prompt_seconds),
        "eval_count": stats.tokens,
        "eval_duration": nanoseconds(stats.seconds),
        "proposed_count": stats.proposed_tokens,
        "accepted_count": stats.accepted_tokens,
    }


def nanoseconds(seconds: float) -> int:
    """At least one, as what is left out reads as nothing."""
    return max(int(seconds * 1e9), 1)


def lower_roles(messages: list[dict[str, Any]]) -> None:
    """Roles in lower case, whatever a client writes."""
    for message in messages:
        if isinstance(message.get("role"), str):
            message["role"] = message["role"].lower()


async def embed(call: Call, ask: EmbedRequest) -> Response:
    """Vectors of texts."""
    texts = [ask.input] if isinstance(ask.input, str) else ask.input
    if texts is None or texts == []:
        await call.server.load(ask)
        return json_reply({"model": ask.model, "embeddings": []})
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refused(400, "invalid input type; a text or a list of texts would work")
    begin = time.perf_counter_ns()
    vectors, tokens = await vectors_of(call, ask, texts, ask.truncate is not False, ask.dimensions, beside(ask))
    figures = {"total_duration": time.perf_counter_ns() - begin, "load_duration": 1, "prompt_eval_count": tokens}
    return json_reply({"model": ask.model, "embeddings": vectors.tolist()} | figures)


async def embeddings(call: Call, ask: Embedding) -> Response:
    """One vector, the older way."""
    if not ask.prompt:
        await call.server.load(ask)
        return json_reply({"embedding": []})
    vectors, _ = await vectors_of(call, ask, [ask.prompt], truncate=True)
    return json_reply({"embedding": vectors[0].tolist()})


def beside(ask: Struct) -> dict[str, Any]:
    """What a request says of prompts, of vectors' length and of adapters, as `Embed` has it."""
    names = ("prompt_name", "prompt", "input_type", "normalize", "lora")
    return {name: value for name in names if (value := getattr(ask, name, None)) is not None}


async def vectors_of(
    call: Call,
    ask: Addressed,
    texts: list[Any],
    truncate: bool,
    dimensions: int | None = None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[np.ndarray[Any, np.dtype[np.float32]], int]:
    """Vectors of texts or token ids, float32 (len(texts), dim), and how many tokens were read; `more` of `beside`."""
    common: dict[str, Any] = {"model": ask.model, "keep_alive": ask.keep_alive, "options": ask.options, **more}
    value = await call.server.value(Embed(input=texts, truncate=truncate, dimensions=dimensions, **common), call.client)
    return np.frombuffer(value["data"], np.float32).reshape(value["rows"], -1), value["tokens"]


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/api/chat",
        gives=Shape(ChatAnswer, (NDJSON,)),
        run=chat,
        reads=Chat,
        about="Answer a conversation.",
    ),
    Endpoint(
        method="POST",
        path="/api/generate",
        gives=Shape(GenerateAnswer, (NDJSON,)),
        run=generate,
        reads=Generate,
        about="Continue a prompt.",
    ),
    Endpoint(
        method="POST",
        path="/api/embed",
        gives=Shape(EmbedAnswer),
        run=embed,
        reads=EmbedRequest,
        about="Vectors of texts.",
    ),
    Endpoint(
        method="POST",
        path="/api/embeddings",
        gives=Shape(EmbeddingAnswer),
        run=embeddings,
        reads=Embedding,
        about="The vector of a text.",
    ),
]
