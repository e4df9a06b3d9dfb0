"""A server that runs for long: thousands of requests of all kinds, and the memory that its processes take meanwhile."""

from __future__ import annotations

import asyncio
import collections
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import click

from benchmarks.clients import ask, conversation
from benchmarks.servers import MODEL, Running, family, puna, resident
from puna.bench.table import lines

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "old": {"type": "boolean"}},
    "required": ["name", "old"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
TEMPLATE = '''TEMPLATE """{{ if .Tools }}<|im_start|>system
<tools>{{ .Tools }}</tools>
Call them so: <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{{ end }}{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
'''
"""Tools are for models whose template has them."""
Request = tuple[str, dict[str, Any], dict[str, Any]]
"""Where to, what, and how the client behaves."""


def kinds(number: int) -> dict[str, Request]:
    """A request of each kind; those of other numbers differ."""
    chat = conversation("short", number, 4 + number % 8)
    whole = {name: value for name, value in chat.items() if not name.startswith("stream")}
    long = {**chat, "max_tokens": 200}
    text = f"The {number} rivers"
    path = "/v1/chat/completions"
    form = {"type": "json_schema", "json_schema": {"name": "one", "schema": SCHEMA}}
    return {
        "streamed": (path, chat, {}),
        "whole": (path, whole, {}),
        "long prompt": (path, conversation("shared", number, 4), {}),
        "left": (path, long, {"leave_after": number % 5}),
        "left whole": (path, {**whole, "max_tokens": 200}, {"patience": 0.02 + number % 10 / 50}),
        "form": (path, {**whole, "max_tokens": 24, "response_format": form}, {}),
        "tools": (path, {**whole, "tools": [TOOL]}, {}),
        "sampled": ("/api/generate", {"prompt": text, "stream": False, "options": {"num_predict": 6}}, {}),
        "tokenized": ("/api/tokenize", {"text": text}, {}),
        "embedded": ("/api/embed", {"input": [text, text * 3]}, {}),
        "no model": (path, {**whole, "model": "none"}, {}),
        "too long": (path, {**whole, "messages": [{"role": "user", "content": "far " * 5000}]}, {}),
        "senseless": (path, {**whole, "temperature": "hot"}, {}),
    }


OFTEN = {"streamed": 6, "whole": 3, "left": 3}
"""How often a kind comes, if more than once in a turn of all."""


def requests(count: int) -> Iterator[tuple[str, Request]]:
    """So many requests, kind by kind."""
    turn = [kind for kind in kinds(0) for _ in range(OFTEN.get(kind, 1))]
    return ((kind, kinds(i)[kind]) for i, kind in zip(range(count), itertools.cycle(turn), strict=False))


async def ask_all(server: Running, asked: Iterator[tuple[str, Request]], clients: int) -> collections.Counter[str]:
    """How many requests of each kind came to what."""
    found: collections.Counter[str] = collections.Counter()

    async def client() -> None:
        for kind, (path, body, manner) in asked:
            found[f"{kind}: {await _outcome(server.port, path, body, manner)}"] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def _outcome(port: int, path: str, body: dict[str, Any], manner: dict[str, Any]) -> str:
    answer = await ask(port, path, {"model": MODEL, **body}, **manner)
    return str(answer.status) if answer.status else answer.error


@click.command()
@click.argument("model")
@click.option("--requests", "count", default=10_000, show_default=True)
@click.option("--clients", default=16, show_default=True)
@click.option("--context", default=1024, show_default=True, help="Positions of a context: K/V is taken as it fills.")
@click.option("--log", default=os.devnull, help="Where the server's own words go.")
def command(model: str, count: int, clients: int, context: int, log: str) -> None:
    """Memory of the server and of the model's process after each tenth of many requests of all kinds."""
    asked = requests(count)
    rows: list[tuple[str, ...]] = [("requests", "server MB", "worker MB", "seconds")]
    outcomes: collections.Counter[str] = collections.Counter()
    with puna(model, clients, log, more={"PUNA_CONTEXT_LENGTH": str(context)}, commands=TEMPLATE) as server:
        begun = time.perf_counter()
        for tenth in range(1, 11):
            outcomes += asyncio.run(ask_all(server, itertools.islice(asked, count // 10), clients))
            pids = family(server.pid)
            sizes = (resident(pids[0]), sum(map(resident, pids[1:])))
            taken = f"{time.perf_counter() - begun:.0f}"
            rows.append((str(tenth * count // 10), *(f"{size / 1e6:.1f}" for size in sizes), taken))
            click.echo(" ".join(rows[-1]), err=True)
    click.echo("\n".join(lines(rows[0], rows[1:])))
    click.echo("\n".join(f"{outcome}  {many}" for outcome, many in sorted(outcomes.items())))
