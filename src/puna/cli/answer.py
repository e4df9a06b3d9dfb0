"""An answer on the terminal: its text as it comes, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puna.cli.display import Display
    from puna.cli.partners import Partner
    from puna.generation import Chunk, Stats


def echoed(chunks: Iterable[Chunk], display: Display) -> Iterator[Chunk]:
    """The chunks, each shown as it passes; calls as lines of JSON."""
    within_line = False
    try:
        for chunk in chunks:
            if chunk.thinking:
                display.think(chunk.thinking)
            display.say(chunk.text)
            within_line = not chunk.text.endswith("\n") if chunk.text else within_line
            for call in chunk.tool_calls:
                line = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
                display.say(f"\n{line}" if within_line else line)
                within_line = True
            yield chunk
    finally:
        display.end()


def cut_short(last: Chunk | None, partner: Partner, options: Mapping[str, Any]) -> str | None:
    """What to say of an answer that ended because the context is full; None where it ended as was asked for."""
    if last is None or last.done_reason != "length" or last.stats is None:
        return None
    asked = int({**parameters(partner.facts), **options}.get("num_predict", -1))
    if 0 <= asked <= last.stats.tokens:
        return None
    positions = partner.running.context_length
    positions = min(positions, int(options.get("num_ctx") or positions))
    return f"the answer is cut short: the context of {positions} positions is full"


def parameters(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A model's own options, from the lines that `/api/show` has for them."""
    options: dict[str, Any] = {}
    for line in facts.get("parameters", "").splitlines():
        name, _, text = line.partition(" ")
        value = json.loads(text)
        options[name] = [*options.get(name, ()), value] if name == "stop" else value
    return options


def figures(stats: Stats, backend: str) -> str:
    """What --verbose prints of an answer, a line for each stage."""
    return (
        f"load    {stats.load_seconds:8.2f} s   backend {backend}\n"
        f"prompt  {stats.prompt_seconds:8.2f} s   {_tokens(stats.prompt_tokens)}, {stats.cached_tokens} of them cached"
        f"{_rate(stats.prompt_rate)}\n"
        f"answer  {stats.seconds:8.2f} s   {_tokens(stats.tokens)}{_rate(stats.rate)}{_ahead(stats)}"
    )


def _ahead(stats: Stats) -> str:
    if not stats.proposed_tokens:
        return ""
    return f"; computed in advance: {stats.accepted_tokens} of {stats.proposed_tokens} were right"


def _tokens(count: int) -> str:
    return f"{count} token" if count == 1 else f"{count} tokens"


def _rate(rate: float) -> str:
    return f", {rate:.1f} tokens/s" if rate else ""
