"""Answers with tokens computed in advance and without, taking turns: texts that repeat themselves, and others."""

from __future__ import annotations

import statistics
from pathlib import Path

import click

import puna

ROOT = Path(__file__).parent.parent
CODE = (ROOT / "src/puna/engine/pool.py").read_text("utf-8")
TEXT = (ROOT / "docs/architecture.md").read_text("utf-8")[:3000]
TASKS = {
    "edit": f"Write this file again, with the class named Store:\n\n{CODE}",
    "summary": f"Summarize this text:\n\n{TEXT}",
    "story": "Write a short story about a lighthouse keeper who finds a letter.",
    "list": "List ten countries with their capitals, as JSON.",
}


@click.command()
@click.argument("model")
@click.option("--draft", help="A smaller model of the same family.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--tokens", default=128, show_default=True)
@click.option("--ahead", default=7, show_default=True, help="Tokens in advance at most.")
@click.option("--task", "tasks", multiple=True, type=click.Choice([*TASKS]), help="Only these.")
def command(model: str, draft: str | None, rounds: int, tokens: int, ahead: int, tasks: tuple[str, ...]) -> None:
    """Tokens a second behind the first one, and the median of the rounds' ratios."""
    loaded = puna.load(model, draft=draft, context_length=4096)
    for name in tasks or TASKS:
        for temperature in (0.0, 0.8):
            rates: dict[int, list[float]] = {0: [], ahead: []}
            texts, share = set(), ""
            for turn in range(rounds + 1):
                for most in (0, ahead) if turn % 2 else (ahead, 0):
                    options = {"temperature": temperature, "seed": 7, "num_predict": tokens, "ignore_eos": True}
                    messages = [{"role": "user", "content": TASKS[name]}]
                    chunks = list(loaded.chat(messages, draft_num_predict=most, **options))
                    stats = chunks[-1].stats
                    texts.add("".join(chunk.text for chunk in chunks))
                    if turn:
                        rates[most].append(stats.rate)
                    if most:
                        share = f"{stats.accepted_tokens:3} of {stats.proposed_tokens:3} right"
            without, within = (statistics.median(each) for each in rates.values())
            ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
            same = "same text" if len(texts) == 1 else f"{len(texts)} TEXTS"
            click.echo(
                f"{name:8} at {temperature}: {without:6.1f} -> {within:6.1f} tokens/s, x{ratio:.2f}, {share}, {same}"
            )
