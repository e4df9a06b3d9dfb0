"""What goes into one step: a part for each sequence, and the rows whose results are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Several
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from puna.engine.choosing import Chosen
    from puna.engine.held import Held
    from puna.engine.sequence import Sequence


class Part(NamedTuple):
    """What one sequence has in a step: new tokens, the position of the first, and the blocks of all.

    Its memory per sequence is left in slot `state`; it was in slot `before`, if not in the same. `windows` are the
    blocks by reach, where they are others; of blocks out of reach any number will do. `read` are the blocks of the
    `read_length` tokens of the text that an encoder read for it. `adapters` are those that it chose.
    """

    tokens: list[int]
    start: int
    blocks: list[int]
    state: int = 0
    before: int | None = None
    windows: Mapping[int, list[int]] = {}
    read: Several[int] = ()
    read_length: int = 0
    adapters: Chosen = ()


def parts_of(plan: list[tuple[Sequence, int]], ahead: dict[Sequence, list[int]]) -> tuple[list[Part], list[int]]:
    """A step's parts, and the rows of it whose results are wanted: of last tokens, and of those in advance."""
    parts, outputs, end = [], list[int](), 0
    for sequence, count in plan:
        start, more = sequence.computed, ahead.get(sequence, [])
        parts.append(part([*sequence.tokens[start : start + count], *more], start, sequence.held))
        end += count + len(more)
        if count == sequence.pending:
            outputs += range(end - 1 - len(more), end)
    return parts, outputs


def part(tokens: list[int], start: int, held: Held) -> Part:
    """A sequence's part of a step that its memory was prepared for."""
    windows = {reach: row.numbers for reach, row in held.windows.items()}
    more = held.read, len(held.text), held.key
    return Part(tokens, start, held.blocks, held.after, held.state, windows, *more)
