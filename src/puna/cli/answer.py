"""An answer on the terminal: its text as it comes, and its figures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from puna.generation import Chunk, Stats


def echoed(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The chunks, each written to stdout as it passes."""
    for chunk in chunks:
        sys.stdout.write(chunk.text)
        sys.stdout.flush()
        yield chunk


def figures(stats: Stats, backend: str) -> str:
    """What --verbose prints of an answer, a line for each stage."""
    return (
        f"load    {stats.load_seconds:8.2f} s   backend {backend}\n"
        f"prompt  {stats.prompt_seconds:8.2f} s   {_tokens(stats.prompt_tokens)}, {stats.cached_tokens} of them cached"
        f"{_rate(stats.prompt_rate)}\n"
        f"answer  {stats.seconds:8.2f} s   {_tokens(stats.tokens)}{_rate(stats.rate)}"
    )


def _tokens(count: int) -> str:
    return f"{count} token" if count == 1 else f"{count} tokens"


def _rate(rate: float) -> str:
    return f", {rate:.1f} tokens/s" if rate else ""
