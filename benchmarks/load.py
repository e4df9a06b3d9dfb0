"""Servers under load: the same requests by many clients at once to Puna and to llama.cpp's server, taking turns."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import click

from benchmarks.clients import Answer, ask_all, conversation, mixed
from benchmarks.servers import MODEL, Running, llama_server, puna
from puna.bench.table import lines, number

PATH = "/v1/chat/completions"
HEAD = (
    "server",
    "clients",
    "tok/s",
    "requests/s",
    "first p50 ms",
    "first p99 ms",
    "between p50 ms",
    "between p99 ms",
    "errors",
    "MB",
)

Figures = dict[str, float]


def measured(server: Running, bodies: list[dict[str, object]], clients: int) -> Figures:
    """What all requests came to."""
    begun = time.perf_counter()
    answers = asyncio.run(ask_all(server.port, PATH, bodies, clients))
    return figures(answers, time.perf_counter() - begun) | {"bytes": server.resident()}


def figures(answers: Sequence[Answer], seconds: float) -> Figures:
    """Tokens and requests a second; waits in milliseconds: for the first token, and between tokens of one answer."""
    good = [answer for answer in answers if not answer.error]
    first = [1e3 * (answer.times[0] - answer.begun) for answer in good if answer.times]
    between = [1e3 * (b - a) for answer in good for a, b in zip(answer.times, answer.times[1:], strict=False)]
    return {
        "rate": sum(answer.tokens for answer in good) / seconds,
        "requests": len(good) / seconds,
        "prompt": sum(answer.prompt_tokens for answer in good) / seconds,
        "first": quantile(first, 0.5),
        "first99": quantile(first, 0.99),
        "between": quantile(between, 0.5),
        "between99": quantile(between, 0.99),
        "errors": len(answers) - len(good),
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that such a share of all does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else float("nan")


def row(name: str, clients: int, rounds: Sequence[Figures]) -> list[str]:
    """Medians of the rounds."""
    middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    waits = (number(middle[key]) for key in ("first", "first99", "between", "between99"))
    errors = sum(each["errors"] for each in rounds)
    rates = (number(middle["rate"]), number(middle["requests"]))
    return [name, str(clients), *rates, *waits, f"{errors:.0f}", f"{middle['bytes'] / 1e6:.0f}"]


@click.command()
@click.argument("model")
@click.option("--peer", help="A llama-server to compare with.")
@click.option("--peer-options", default="", help="What else it is given.")
@click.option("--clients", default="8,32", show_default=True)
@click.option("--requests", default=2, show_default=True, help="Of each client in a round.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=os.cpu_count() or 1, show_default=True, help="Of the peer.")
@click.option("--mix", default="5,3,2", show_default=True, help="Shares of short, shared and long prompts.")
@click.option("--seed", default=1, show_default=True, help="Which requests the first round has.")
@click.option("--log", default=os.devnull, help="Where the servers' own words go.")
def command(
    model: str,
    peer: str | None,
    peer_options: str,
    clients: str,
    requests: int,
    rounds: int,
    threads: int,
    mix: str,
    seed: int,
    log: str,
) -> None:
    """Chat completions: short prompts, ones behind a shared system prompt, long ones; 64 to 128 tokens of answer."""
    weights = [int(each) for each in mix.split(",")]
    rows = [HEAD]
    for count in map(int, clients.split(",")):
        with ExitStack() as stack:
            servers = [stack.enter_context(puna(model, count, log))]
            if peer:
                servers.append(stack.enter_context(llama_server(peer, model, count, threads, peer_options, log)))
            found = list(_rounds(servers, count, requests, range(seed, seed + rounds), weights))
        named = {server.name: [each[i] for each in found] for i, server in enumerate(servers)}
        rows += [tuple(row(name, count, each)) for name, each in named.items()]
        if peer:
            ratios = [a["rate"] / b["rate"] for a, b in found]
            click.echo(f"{count} clients: {number(statistics.median(ratios))} x ({', '.join(map(number, ratios))})")
    click.echo("\n".join(lines(rows[0], rows[1:])))


def _rounds(
    servers: Sequence[Running], clients: int, requests: int, rounds: range, weights: Sequence[int]
) -> Iterator[list[Figures]]:
    """The figures of all servers, round by round; each is loaded and has seen the shared prompt before."""
    for server in servers:
        measured(server, [{"model": MODEL, **conversation(kind, 1, 8)} for kind in ("short", "shared", "long")], 1)
    for turn in rounds:
        bodies = [{"model": MODEL, **body} for body in mixed(clients * requests, 1000 * turn, weights)]
        order = range(len(servers)) if turn % 2 == 0 else reversed(range(len(servers)))
        found = {i: measured(servers[i], bodies, clients) for i in order}
        for i, each in sorted(found.items()):
            click.echo(f"  {servers[i].name}: " + ", ".join(f"{k} {number(v)}" for k, v in each.items()), err=True)
        yield [found[i] for i in range(len(servers))]
