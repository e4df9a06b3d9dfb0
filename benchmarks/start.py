"""Cold process to first token: whole processes, the page cache warm."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import click


@click.command()
@click.argument("model")
@click.option("--rounds", default=7, show_default=True)
def command(model: str, rounds: int) -> None:
    """Seconds of `puna run MODEL` to its first token, of `puna --help`, and of bare Python."""
    puna = [sys.executable, "-m", "puna"]
    works = {
        "python": [sys.executable, "-c", "pass"],
        "puna --help": [*puna, "--help"],
        "first token": [*puna, "run", model, "Why is the sky blue?", "-p", "num_predict=1", "-p", "temperature=0"],
    }
    for name, words in works.items():
        times = []
        for _ in range(rounds + 1):
            begun = time.perf_counter()
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - begun)
        times = times[1:]
        click.echo(f"{name:14} {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})")
