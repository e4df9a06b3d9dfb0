"""Decode and prefill speed of one GGUF file, the contenders taking turns, beside the machine's read bandwidth."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.contenders import CONTENDERS, Contender
from puna.dtypes import F32


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def decode_rate(contender: Contender, prompt: list[int], count: int) -> float:
    """Tokens a second after a prompt."""
    token = contender.prefill(prompt)

    def run() -> None:
        following = token
        for i in range(count):
            following = contender.decode(following, len(prompt) + i)

    return count / timed(run)


def prefill_rate(contender: Contender, prompt: list[int]) -> float:
    """Prompt tokens a second."""
    return len(prompt) / timed(lambda: contender.prefill(prompt))


@cache
def _unread_memory() -> list[Any]:
    """Half a gigabyte, far larger than the caches."""
    from puna.backends.cpu import _native

    rows, columns = 1 << 15, 1 << 12
    return [_native.linear_pack(F32.ggml_id, rows, columns, np.zeros(rows * columns * 4, np.uint8))]


def read_bandwidth(threads: int) -> float:
    """GB a second that `threads` threads read."""
    from puna.backends.cpu import _native

    memory = _unread_memory()
    return float(sum(w.nbytes for w in memory) / min(_native.time_read(memory, threads=threads, rounds=3)) / 1e9)


@click.command()
@click.argument("model", type=click.Path(exists=True))
@click.option("--peer/--no-peer", default=True, help="Take llama.cpp's turn too.")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--prefill", "lengths", multiple=True, type=int, default=(512,), show_default=True)
@click.option("--tokens", default=128, show_default=True, help="Tokens decoded in a round.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write every figure here too.")
def command(
    model: str, peer: bool, threads: int, rounds: int, lengths: tuple[int, ...], tokens: int, out: Path | None
) -> None:
    """Decode and prefill of MODEL, a GGUF file: medians, ratios, and shares of the read bandwidth."""
    context = max(*lengths, tokens + 16) + 64
    contenders = [CONTENDERS[n](model, context, threads) for n in ("puna", *(["llama.cpp"] if peer else []))]
    prompt = np.random.default_rng(1).integers(100, 4000, max(lengths)).tolist()
    figures: dict[str, dict[str, list[float]]] = {}

    def note(work: str, name: str, value: float) -> None:
        figures.setdefault(work, {}).setdefault(name, []).append(value)

    for number in range(rounds + 1):  # the first round warms up
        for contender in contenders if number % 2 else reversed(contenders):
            for length in lengths:
                rate = prefill_rate(contender, prompt[:length])
                if number:
                    note(f"prefill {length}", contender.name, rate)
            rate = decode_rate(contender, prompt[:16], tokens)
            if number:
                note("decode", contender.name, rate)
        if number:
            note("read GB/s", "limit", read_bandwidth(threads))
    report(figures, Path(model).stat().st_size)
    if out:
        out.write_text(json.dumps(figures, indent=1))


def report(figures: dict[str, dict[str, list[float]]], nbytes: int) -> None:
    """A line for each work: median (least, most) of every contender, the ratio, the share of the read bandwidth."""
    limit = statistics.median(figures["read GB/s"]["limit"])
    for work, of in figures.items():
        medians = {name: statistics.median(values) for name, values in of.items()}
        cells = [f"{name} {medians[name]:8.1f} ({min(v):.1f} to {max(v):.1f})" for name, v in of.items()]
        if len(medians) == 2:
            cells.append(f"ratio {medians['puna'] / medians['llama.cpp']:.2f}")
        if work == "decode":
            cells.append(f"{100 * medians['puna'] * nbytes / 1e9 / limit:.0f} % of read")
        click.echo(f"{work:14} " + "   ".join(cells))
