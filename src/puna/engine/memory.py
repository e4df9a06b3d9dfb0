"""Who holds which memory of a model, and what finished sequences left behind for reuse.

Positions lie in blocks, which several sequences may hold whose tokens up to a block's end are the same. What only reads
the latest positions has pools of its own, where blocks out of reach are let go of. Memory per sequence is in slots; it
stands for one number of tokens and cannot be taken back. So what one needs to go on from some *places*, besides blocks
of all positions, is held for others: blocks within reach, and a slot, in whose stead the next step takes another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from puna.cache import BLOCK
from puna.engine.held import NONE, Held, Kept, Place, Row
from puna.engine.pool import Pool

PLACES = 8
"""What one sequence holds at most; the earliest gives way."""

ENDS = 2
"""The places of a sequence that are worth most: its prompt's end, and its own, which a running one has yet to reach."""


class Memory:
    """`blocks` of BLOCK positions, as many as `windows` says by reach, and `states` slots, 0 for a model without.

    Kept conversations give way to others.
    """

    def __init__(self, blocks: int, states: int = 0, windows: Mapping[int, int] = {}) -> None:
        self.blocks = Pool(blocks)
        self.states = Pool(states)
        self.windows = {reach: Pool(count) for reach, count in windows.items()}
        self.kept: list[Kept] = []  # the one that was needed last is the last

    def extend(self, held: Held, positions: int, running: Iterable[Held] = ()) -> bool:
        """Make room for a step up to `positions`; False, and nothing taken, if there is not enough.

        Kept conversations give way, and places of them and of what is `running`.
        """
        count = -(-positions // BLOCK)
        if self._settle(held) and count <= len(held.blocks):
            return True
        while len(self.blocks.free) < held.lacks(positions) and self.kept:
            self._forget(self.kept[0])
        if len(self.blocks.free) < held.lacks(positions):
            return False
        rows = [(pool, held.windows.setdefault(reach, Row()).numbers) for reach, pool in self.windows.items()]
        holders: list[Held | Kept] = [*self.kept, *running, held]
        while any(len(pool.free) < count - len(numbers) for pool, numbers in rows):
            if not self._give_way(holders):
                return False
        while not self._settle(held):
            if self.states.free:
                held.after = self.states.take()
            elif not self._give_way(holders):
                return False
        for pool, numbers in [(self.blocks, held.blocks), *rows]:
            numbers += [pool.take() for _ in range(count - len(numbers))]
        held.read += [self.blocks.take() for _ in range(held.lacks(positions))]
        return True

    def _settle(self, held: Held) -> bool:
        """Whether the next memory has a slot: that of the present one, unless others need that."""
        if held.after == NONE and held.state != NONE and self.states.holders[held.state] == 1:
            held.after = held.state
        return held.after != NONE or not self.states.count

    def _give_way(self, holders: Sequence[Held | Kept]) -> bool:
        """Let go of a place: the earliest of the first that has any, but before that, those that are no ends."""
        midst = (holder for holder in holders if len(holder.places) > ENDS - isinstance(holder, Held))
        holder = next(midst, None) or next((holder for holder in holders if holder.places), None)
        if holder is None:
            return False
        self._drop(holder, next(iter(holder.places)))
        if isinstance(holder, Kept) and not holder.places:
            self._forget(holder)
        return True

    def _drop(self, holder: Held | Kept, at: int) -> None:
        place = holder.places.pop(at)
        for reach, row in place.windows.items():
            self.windows[reach].release(row.live)
        if place.state != NONE:
            self.states.release([place.state])

    def advance(self, held: Held, computed: int, mark: int = 0) -> None:
        """Note that a step is done and `computed` tokens are; hold a place at `mark` of them, if that is not 0."""
        if held.after not in (NONE, held.state):
            if held.state != NONE:
                self.states.release([held.state])
            held.state = held.after
        held.after = NONE
        if mark:
            self._hold_place(held, mark)
        for reach, row in held.windows.items():
            first = _first(reach, computed - 1)
            self.windows[reach].release(row.numbers[row.first : first])
            row.first = max(row.first, first)

    def _hold_place(self, held: Held, at: int) -> None:
        """Hold what is needed to go on behind so many tokens, or one less; a slot stands for all that are computed."""
        if at in held.places:
            return
        if len(held.places) == PLACES:
            self._drop(held, next(iter(held.places)))
        windows = {reach: row.cut(_first(reach, at - 1), -(-at // BLOCK)) for reach, row in held.windows.items()}
        held.places[at] = Place(windows, held.state)
        self._hold(windows, held.state)

    def _hold(self, windows: Mapping[int, Row], state: int) -> None:
        for reach, row in windows.items():
            self.windows[reach].hold(row.live)
        if state != NONE:
            self.states.hold([state])

    def spare(self) -> int:
        """How many blocks are free, or would be if kept conversations gave way."""
        return _spare(self.blocks, (block for kept in self.kept for block in kept.blocks))

    def room_for(self, wanted: Sequence[tuple[Held, int]]) -> bool:
        """Whether all these could have so many positions at once, if kept conversations and places gave way."""
        counts = [(held, -(-positions // BLOCK)) for held, positions in wanted]
        if sum(held.lacks(positions) for held, positions in wanted) > self.spare():
            return False
        holders: list[Held | Kept] = [*self.kept, *(held for held, _ in wanted)]
        places = [place for holder in holders for place in holder.places.values()]
        for reach, pool in self.windows.items():
            most = -(-reach // BLOCK) + 1
            rows = [(held.windows.get(reach, Row()), count) for held, count in counts]
            missing = (min(most, count - row.first) - len(row.live) for row, count in rows)
            numbers = (number for place in places for number in place.windows[reach].live)
            if sum(max(count, 0) for count in missing) > _spare(pool, numbers):
                return False
        return True

    def release(self, held: Held) -> None:
        """Let go of everything."""
        self.states.release({slot for slot in (held.state, held.after) if slot != NONE})
        self.blocks.release([*held.blocks, *held.read])
        for reach, row in held.windows.items():
            self.windows[reach].release(row.live)
        for at in [*held.places]:
            self._drop(held, at)
        held.blocks, held.windows, held.state, held.after, held.read = [], {}, NONE, NONE, []

    def keep(self, tokens: list[int], held: Held) -> None:
        """Hold for later what a finished sequence holds; `tokens` are those that were computed.

        Not after a text that an encoder read: the same tokens mean something else after another one.
        """
        if tokens and not held.text:
            self._hold_place(held, len(tokens))
            blocks = held.blocks[: -(-len(tokens) // BLOCK)]
            self.blocks.hold(blocks)
            self.kept.append(Kept(tokens, blocks, held.places))
            held.places = {}
        self.release(held)

    def _forget(self, kept: Kept) -> None:
        self.kept.remove(kept)
        self.blocks.release(kept.blocks)
        for at in [*kept.places]:
            self._drop(kept, at)

    def reuse(self, tokens: Sequence[int]) -> tuple[Held, int]:
        """What already stands for a beginning of `tokens`, and how many tokens that is.

        A kept conversation that mostly goes on is taken over with its last, partly filled blocks; of one that merely
        begins alike, whole blocks are shared, and the memory that stands for as many tokens.
        """
        offers = [(*self._offer(kept, tokens), kept) for kept in self.kept]
        length, at, taken, kept = max(offers, default=(0, 0, False, None), key=lambda offer: offer[0])
        if kept is None or length == 0:
            return Held(), 0
        place, count = kept.places[at], -(-length // BLOCK)
        windows = {reach: row.cut(0, count) for reach, row in place.windows.items()}
        held = Held(kept.blocks[:count], windows, place.state)
        self.blocks.hold(held.blocks)
        self._hold(windows, place.state)
        if taken:
            held.places = {at: kept.places.pop(at) for at in [*kept.places] if at <= length}
            self._forget(kept)
        else:
            self.kept.remove(kept)
            self.kept.append(kept)
        return held, length

    def _offer(self, kept: Kept, tokens: Sequence[int]) -> tuple[int, int, bool]:
        """With how many tokens of a kept conversation others can begin, from which place, and if they take it over."""
        common = common_prefix(kept.tokens, tokens)
        length, at = self._furthest(kept, common)
        if length % BLOCK and 2 * length >= len(kept.tokens) and self.blocks.holders[kept.blocks[length // BLOCK]] == 1:
            return length, at, True
        return *self._furthest(kept, common, BLOCK), False

    def _furthest(self, kept: Kept, most: int, unit: int = 1) -> tuple[int, int]:
        """Behind how many tokens one can go on, a multiple of `unit`, and from which place; 0 for nowhere.

        A memory stands for its place only; blocks within reach also for earlier tokens, as far as they are held.
        """
        found = (0, 0)
        for at, place in kept.places.items():
            length = min(at, most) // unit * unit
            held = all(_first(reach, length) >= row.first for reach, row in place.windows.items())
            if held and (place.state == NONE or length == at):
                found = max(found, (length, at))
        return found


def _first(reach: int, position: int) -> int:
    """The first block that a token at a position may read."""
    return max(position - reach + 1, 0) // BLOCK


def _spare(pool: Pool, numbers: Iterable[int]) -> int:
    """How many are free, or would be if as many holders of these let go as they are named."""
    return len(pool.free) + sum(pool.holders[number] == count for number, count in Counter(numbers).items())


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    limit = min(len(a), len(b))
    if list(a[:limit]) == list(b[:limit]):
        return limit
    return next(i for i in range(limit) if a[i] != b[i])
