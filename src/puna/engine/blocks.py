"""Blocks of cache slots: which are free, who holds which, and what finished sequences left behind for reuse.

A block may be held by several sequences whose tokens up to its end are the same; it is free when nobody holds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from puna.cache import BLOCK


@dataclass(slots=True)
class Kept:
    """What a finished sequence left: the tokens whose K/V are in `blocks`."""

    tokens: list[int]
    blocks: list[int]


@dataclass(slots=True)
class Blocks:
    """`count` blocks of BLOCK slots. Kept conversations give way, oldest first, when blocks run out."""

    count: int
    holders: list[int] = field(init=False)
    free: list[int] = field(init=False)
    kept: list[Kept] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.holders = [0] * self.count
        self.free = list(reversed(range(self.count)))

    def extend(self, blocks: list[int], positions: int) -> bool:
        """Appends blocks until `positions` fit; False, and nothing taken, if there are not enough."""
        need = -(-positions // BLOCK) - len(blocks)
        while len(self.free) < need and self.kept:
            self.release(self.kept.pop(0).blocks)
        if len(self.free) < need:
            return False
        for _ in range(need):
            block = self.free.pop()
            self.holders[block] = 1
            blocks.append(block)
        return True

    def spare(self) -> int:
        """How many blocks are free, or would be if kept conversations gave way."""
        kept = Counter(block for k in self.kept for block in k.blocks)
        return len(self.free) + sum(self.holders[block] == count for block, count in kept.items())

    def release(self, blocks: Sequence[int]) -> None:
        """One holder lets go of `blocks`."""
        for block in blocks:
            self.holders[block] -= 1
            if self.holders[block] == 0:
                self.free.append(block)

    def keep(self, tokens: list[int], blocks: list[int]) -> None:
        """Holds a finished sequence's blocks for later; `tokens` are those whose K/V were written."""
        used = -(-len(tokens) // BLOCK)
        self.release(blocks[used:])
        if tokens:
            self.kept.append(Kept(tokens, blocks[:used]))

    def reuse(self, tokens: Sequence[int]) -> tuple[list[int], int]:
        """Blocks that already hold a beginning of `tokens`, and how many tokens that is.

        A kept conversation that mostly goes on is taken over with its last, partly filled block; of one that merely
        begins alike, whole blocks are shared.
        """
        shared = [common_prefix(k.tokens, tokens) for k in self.kept]
        if not shared or max(shared) == 0:
            return [], 0
        place = max(range(len(shared)), key=lambda i: (shared[i], i))
        length, kept = shared[place], self.kept[place]
        whole, rest = divmod(length, BLOCK)
        if rest and 2 * length >= len(kept.tokens) and self.holders[kept.blocks[whole]] == 1:
            self.kept.pop(place)
            self.release(kept.blocks[whole + 1 :])
            return kept.blocks[: whole + 1], length
        blocks = kept.blocks[:whole]
        for block in blocks:
            self.holders[block] += 1
        return blocks, whole * BLOCK


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    limit = min(len(a), len(b))
    if list(a[:limit]) == list(b[:limit]):
        return limit
    return next(i for i in range(limit) if a[i] != b[i])
