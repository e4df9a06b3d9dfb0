"""How large a program is: positions, memories and sequences that it has room for, and what one step may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from puna.cache import BLOCK

CHUNK = 512
"""Tokens in one step at most; a longer prompt takes several."""

ROWS = 64
"""Rows of logits in one step at most; it bounds the memory for a large vocabulary."""

STATES = 1 << 30
"""Bytes that memories of sequences may take, running and kept ones together, if that is enough for a few."""
FEW = 4
"""Sequences that always have room: for whole contexts, whole windows, memories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes of a program: `slots` positions of cache, `states` memories of sequences, and bounds of one step.

    `windows` are the slots by reach, for blocks that do not read all positions, where they are not as many.
    """

    slots: int
    states: int
    tokens: int
    outputs: int
    sequences: int
    table: int  # blocks one sequence may have
    windows: Mapping[int, int] = field(default_factory=dict)


def limits(
    context_length: int,
    sequences: int,
    *,
    encoder: bool = False,
    hidden: bool = False,
    texts: bool = False,
    sequence_bytes: int = 0,
    reaches: Iterable[int] = (),
) -> Limits:
    """Program sizes for `sequences` at once that share room for four contexts (or fewer, if they are fewer).

    Of an `encoder`, or where `hidden` states are wanted, a step gives rows of all its tokens. There is as much room
    again where an encoder reads `texts`. Blocks that read the latest positions only, of `reaches`, have less room where
    that is enough. Where a sequence has `sequence_bytes` of memory besides its positions, there are twice as many
    memories, so that conversations can be resumed, but no more than STATES has room for, which may bound sequences too.
    """
    table = -(-context_length // BLOCK)
    tokens = context_length if encoder else min(CHUNK, context_length)
    slots = table * BLOCK * min(sequences, FEW) * (2 if texts else 1)
    windows = {reach: _window_slots(reach, sequences, tokens) for reach in reaches}
    return Limits(
        slots=slots,
        states=min(2 * sequences, max(STATES // sequence_bytes, FEW)) if sequence_bytes else 0,
        tokens=tokens,
        outputs=tokens if encoder or hidden else min(ROWS, tokens),
        sequences=sequences,
        table=table,
        windows={reach: count for reach, count in windows.items() if count < slots},
    )


def _window_slots(reach: int, sequences: int, tokens: int) -> int:
    """Positions for a step, and a few windows and as many places to resume from, or a little for each sequence."""
    few, each = min(sequences, FEW) * 2 * (-(-reach // BLOCK) + 2), sequences * 3
    return (max(few, each) - (-tokens // BLOCK)) * BLOCK
