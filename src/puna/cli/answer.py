"""An answer on the terminal: its text as it comes, and its figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

DIM, PLAIN = "\x1b[2m", "\x1b[0m"

if TYPE_CHECKING:
    from puna.cli.partners import Partner
    from puna.generation import Chunk, Stats


def echoed(chunks: Iterable[Chunk], *, thinking: bool = True) -> Iterator[Chunk]:
    """The chunks, each written to stdout as it passes: thinking dimmed, and on a terminal only; calls as JSON lines."""
    shown = thinking and sys.stdout.isatty()
    thinking = within_line = False
    for chunk in chunks:
        if chunk.thinking and shown:
            write(f"{DIM}{chunk.thinking}{PLAIN}")
            thinking = True
        if (chunk.text or chunk.tool_calls) and thinking:
            write("\n\n")
            thinking = False
        write(chunk.text)
        within_line = not chunk.text.endswith("\n") if chunk.text else within_line
        for call in chunk.tool_calls:
            line = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
            write(f"\n{line}" if within_line else line)
            within_line = True
        yield chunk


def write(text: str) -> None:
    """A part of an answer to stdout, at once; OSError says where that failed."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "writing the answer") from error


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
