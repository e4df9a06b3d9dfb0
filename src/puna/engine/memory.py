"""Who holds which memory of a model, and what finished sequences left behind for reuse.

Positions lie in blocks, which several sequences may hold whose tokens up to a block's end are the same. Memory per
sequence lies in slots; it stands for one number of tokens and cannot be taken back, so copies of it, *checkpoints*, are
held at some places, from which another sequence can go on. A copy is made by a step that leaves its result elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from puna.cache import BLOCK
from puna.engine.pool import Pool

NONE = -1
"""The number of no slot."""

CHECKPOINTS = 8
"""What one sequence holds at most; the earliest gives way."""


@dataclass(slots=True)
class Held:
    """What a sequence holds.

    `state`: the slot of its memory now; `after`: of that behind the step under way. `checkpoints`: slots, by how many
    tokens they stand for, rising.
    """

    blocks: list[int] = field(default_factory=list)
    state: int = NONE
    after: int = NONE
    checkpoints: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Kept:
    """What a finished sequence left: `tokens` whose K/V are in `blocks`, and checkpoints."""

    tokens: list[int]
    blocks: list[int]
    checkpoints: dict[int, int]


class Memory:
    """`blocks` of BLOCK positions and `states` slots, 0 for a model without. Kept conversations give way to others."""

    def __init__(self, blocks: int, states: int = 0) -> None:
        self.blocks = Pool(blocks)
        self.states = Pool(states)
        self.kept: list[Kept] = []  # oldest first

    def extend(self, held: Held, positions: int) -> bool:
        """Make room for a step up to `positions`; False, and nothing taken, if there is not enough."""
        need = -(-positions // BLOCK) - len(held.blocks)
        while len(self.blocks.free) < need and self.kept:
            self._forget(self.kept[0])
        if len(self.blocks.free) < need or not self._prepare(held):
            return False
        held.blocks += [self.blocks.take() for _ in range(need)]
        return True

    def _prepare(self, held: Held) -> bool:
        """Find the slot of the next memory: that of the present one, unless others need that."""
        if not self.states.count or held.after != NONE:
            return True
        while True:
            if held.state != NONE and self.states.holders[held.state] == 1:
                held.after = held.state
            elif self.states.free:
                held.after = self.states.take()
            elif not self._give_way(held):
                return False
            else:
                continue
            return True

    def _give_way(self, held: Held) -> bool:
        """Let go of a checkpoint: of the oldest conversation, at last of its own."""
        oldest = next((kept for kept in self.kept if kept.checkpoints), None)
        checkpoints = oldest.checkpoints if oldest else held.checkpoints
        if not checkpoints:
            return False
        self.states.release([checkpoints.pop(next(iter(checkpoints)))])
        if oldest and not oldest.checkpoints:
            self._forget(oldest)
        return True

    def advance(self, held: Held) -> None:
        """Note that the step is done."""
        if held.after not in (NONE, held.state):
            if held.state != NONE:
                self.states.release([held.state])
            held.state = held.after
        held.after = NONE

    def checkpoint(self, held: Held, computed: int) -> None:
        """Hold the memory as it is now, which stands for so many tokens; the next step will leave its own elsewhere."""
        if held.state == NONE or computed in held.checkpoints:
            return
        if len(held.checkpoints) == CHECKPOINTS:
            self.states.release([held.checkpoints.pop(next(iter(held.checkpoints)))])
        self.states.hold([held.state])
        held.checkpoints[computed] = held.state

    def spare(self) -> int:
        """How many blocks are free, or would be if kept conversations gave way."""
        kept = Counter(block for k in self.kept for block in k.blocks)
        return len(self.blocks.free) + sum(self.blocks.holders[block] == count for block, count in kept.items())

    def release(self, held: Held) -> None:
        """Let go of everything."""
        own = {slot for slot in (held.state, held.after) if slot != NONE}
        self.states.release([*own, *held.checkpoints.values()])
        self.blocks.release(held.blocks)
        held.blocks, held.state, held.after, held.checkpoints = [], NONE, NONE, {}

    def keep(self, tokens: list[int], held: Held) -> None:
        """Hold for later what a finished sequence holds; `tokens` are those that were computed."""
        self.checkpoint(held, len(tokens))
        if tokens and (held.checkpoints or not self.states.count):
            used = -(-len(tokens) // BLOCK)
            self.kept.append(Kept(tokens, held.blocks[:used], held.checkpoints))
            held.blocks, held.checkpoints = held.blocks[used:], {}
        self.release(held)

    def _forget(self, kept: Kept) -> None:
        self.kept.remove(kept)
        self.blocks.release(kept.blocks)
        self.states.release(kept.checkpoints.values())

    def reuse(self, tokens: Sequence[int]) -> tuple[Held, int]:
        """What already stands for a beginning of `tokens`, and how many tokens that is.

        A kept conversation that mostly goes on is taken over with its last, partly filled block; of one that merely
        begins alike, whole blocks are shared, and the memory that stands for as many tokens.
        """
        offers = [self._offer(kept, tokens) for kept in self.kept]
        length, taken = max(offers, default=(0, False), key=lambda offer: offer[0])
        if length == 0:
            return Held(), 0
        place = max(i for i, offer in enumerate(offers) if offer[0] == length)
        kept, taken = self.kept[place], offers[place][1]
        blocks = kept.blocks[: -(-length // BLOCK)]
        state = kept.checkpoints.get(length, NONE)
        self.states.hold([state] if state != NONE else [])
        if not taken:
            self.blocks.hold(blocks)
            return Held(blocks, state), length
        self.kept.pop(place)
        self.blocks.release(kept.blocks[len(blocks) :])
        self.states.release(slot for at, slot in kept.checkpoints.items() if at > length)
        return Held(blocks, state, checkpoints={at: s for at, s in kept.checkpoints.items() if at <= length}), length

    def _offer(self, kept: Kept, tokens: Sequence[int]) -> tuple[int, bool]:
        """With how many tokens of a kept conversation others can begin, and whether they would take it over."""
        common = common_prefix(kept.tokens, tokens)
        places = [at for at in kept.checkpoints if at <= common] if self.states.count else [common]
        longest = max(places, default=0)
        whole, rest = divmod(longest, BLOCK)
        if rest and 2 * longest >= len(kept.tokens) and self.blocks.holders[kept.blocks[whole]] == 1:
            return longest, True
        if not self.states.count:
            return whole * BLOCK, False
        return max((at for at in places if at % BLOCK == 0), default=0), False


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    limit = min(len(a), len(b))
    if list(a[:limit]) == list(b[:limit]):
        return limit
    return next(i for i in range(limit) if a[i] != b[i])
