"""Backends beside each other on one model: prefill and decode, taking turns."""

from __future__ import annotations

import statistics

import click

from puna.bench.contender import Puna
from puna.bench.work import PROMPT, Work
from puna.opened import open_model
from puna.runtime import Runtime


@click.command()
@click.argument("model")
@click.argument("names", nargs=-1, required=True, metavar="BACKEND...")
@click.option("--prefill", default=256, show_default=True)
@click.option("--decode", default=32, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", type=int)
def command(model: str, names: tuple[str, ...], prefill: int, decode: int, rounds: int, threads: int | None) -> None:
    """Tokens a second of each BACKEND, as in "cpu torch torch:cuda:1", and its part of the first one's."""
    works = [Work(f"prefill {prefill}", prefill), Work(f"decode {decode}", 1, start=PROMPT, steps=decode)]
    sessions = {}
    for name in names:
        puna = Puna(lambda kv, name=name: _runtime(model, name, kv, threads))
        sessions[name] = [puna.session(work) for work in works]
    seconds: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds + 1):
        for place, work in enumerate(works):
            for name in names:
                taken = sessions[name][place].run()
                if turn:  # the first is to warm up
                    seconds.setdefault((work.name, name), []).append(taken)
    for (what, name), times in seconds.items():
        work = next(work for work in works if work.name == what)
        rates = [work.counted / taken for taken in times]
        share = statistics.median(a / b for a, b in zip(seconds[what, names[0]], times, strict=True))
        spread = f"{min(rates):.1f} to {max(rates):.1f}"
        click.echo(f"{what:12} {name:16} {statistics.median(rates):8.1f} tokens/s ({spread})  {share:5.0%}")


def _runtime(model: str, backend: str, kv: str, threads: int | None) -> Runtime:
    return Runtime(open_model(model), backend=backend, context_length=None, kv_type=kv, threads=threads)
