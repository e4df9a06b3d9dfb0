"""Clients of an HTTP server: requests with streamed answers, and when each piece came. They know no server's process.

Bare sockets, as an HTTP library would take more of the machine than the server does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"
TALE = """the a river of light over stone and water runs to sea where small boats carry grain salt iron wool from north
to south while people count days by bells that ring in towers built long ago for kings who never saw them done"""
WORDS = TALE.split()
SYSTEM = 430
"""Words of the system prompt that conversations share, about as many tokens."""
SIZES = {"short": 20, "shared": 60, "long": 1450}
"""Words of a question, about as many tokens."""


@dataclass(slots=True)
class Answer:
    """When a request was sent, when each piece of its answer came, and what the server says of its tokens."""

    begun: float
    times: list[float] = field(default_factory=list)
    ended: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0
    status: int = 0
    error: str = ""


def conversation(kind: str, number: int, tokens: int) -> dict[str, Any]:
    """A request to `/v1/chat/completions`; those of one number are the same, those of others begin differently."""
    ask = {"role": "user", "content": f"Say something of {number}. {text(number, SIZES[kind])}"}
    messages = [{"role": "system", "content": text(0, SYSTEM)}, ask] if kind == "shared" else [ask]
    return {"messages": messages, "max_tokens": tokens, "temperature": 0, **STREAMED}


STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def text(number: int, words: int) -> str:
    """So many words, by a rule."""
    step = 1 + number % (len(WORDS) - 1)
    return " ".join(WORDS[(number + i * step + i * i // 7) % len(WORDS)] for i in range(words))


def mixed(count: int, seed: int, weights: Sequence[int] = (5, 3, 2)) -> list[dict[str, Any]]:
    """So many requests of all kinds, for 64 to 128 tokens each; other seeds give other ones."""
    kinds = list(_spread(dict(zip(SIZES, weights, strict=True))))
    return [conversation(kinds[i % len(kinds)], seed + i, 64 + 4 * (i * 7 % 17)) for i in range(count)]


def _spread(weights: dict[str, int]) -> Iterator[str]:
    """Each kind as often as its weight says, as evenly as can be."""
    total = sum(weights.values())
    places = sorted(((i + 0.5) * total / many, kind) for kind, many in weights.items() for i in range(many))
    return (kind for _, kind in places)


async def ask_all(port: int, path: str, bodies: Sequence[dict[str, Any]], clients: int) -> list[Answer]:
    """All requests, by so many clients: each sends the next one when its own is answered."""
    left, answers = iter(bodies), []

    async def client() -> None:
        for body in left:
            answers.append(await ask(port, path, body))

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def ask(
    port: int, path: str, body: dict[str, Any], leave_after: int | None = None, patience: float | None = None
) -> Answer:
    """One request; the client goes away after so many pieces, or so many seconds, if the answer is not whole."""
    answer = Answer(time.perf_counter())
    reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 22)
    try:
        writer.write(_request(path, body))
        async with asyncio.timeout(patience):
            head = await reader.readuntil(b"\r\n\r\n")
            answer.status = int(head.split(maxsplit=2)[1])
            if answer.status != 200:
                answer.error = (await reader.read(400)).decode("utf-8", "replace")
            elif body.get("stream"):
                await _listen(reader, answer, leave_after)
            else:
                await reader.read()
    except TimeoutError:
        answer.error = "left"
    except (OSError, asyncio.IncompleteReadError) as error:
        answer.error = f"{type(error).__name__}: {error}"
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    answer.ended = time.perf_counter()
    return answer


def _request(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def _listen(reader: asyncio.StreamReader, answer: Answer, leave_after: int | None) -> None:
    """Notes pieces until the answer ends."""
    rest = b""
    while data := await reader.read(1 << 16):
        now = time.perf_counter()
        *events, rest = (rest + data).split(b"\n\n")
        for event in events:
            if b'"usage":{' in event and (at := event.find(b"{")) >= 0:
                usage = json.loads(event[at:])["usage"]
                answer.tokens, answer.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
            elif b'"content":"' in event or b'"text":"' in event:
                answer.times.append(now)
        if leave_after is not None and len(answer.times) >= leave_after:
            return
    if not answer.tokens:
        answer.error = (rest + data).decode("utf-8", "replace")[-400:] or "the answer has no end"
