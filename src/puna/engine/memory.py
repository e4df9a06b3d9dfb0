"""Who holds which memory of a model, and what is there for others to begin with.

Positions lie in blocks, which several sequences may hold whose tokens up to a block's end are the same: whole ones are
in a tree as soon as they are computed. What only reads the latest positions has pools of its own, where blocks out of
reach are let go of. Memory per sequence is in slots; it stands for one number of tokens and cannot be taken back. So
what one needs to go on from some *places*, besides blocks of all positions, is held for others: blocks within reach,
and a slot, in whose stead the next step takes another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from puna.cache import BLOCK
from puna.engine.held import NONE, Held, Row
from puna.engine.pool import Pool
from puna.engine.tree import Node, Place, Tree

ENDS = 2
"""The places of a conversation that are worth most: its last prompt's end, and its own."""


class Memory:
    """`blocks` of BLOCK positions, as many as `windows` says by reach, and `states` slots, 0 for a model without.

    What no sequence holds gives way to others, what was needed last at last. `copy`, where that can be done, makes a
    block of a reach (0: of all positions) what another is, and is called with that, the one, and the new one.
    """

    def __init__(
        self,
        blocks: int,
        states: int = 0,
        windows: Mapping[int, int] = {},
        copy: Callable[[int, int, int], None] | None = None,
    ) -> None:
        self.blocks = Pool(blocks)
        self.states = Pool(states)
        self.windows = {reach: Pool(count) for reach, count in windows.items()}
        self.tree = Tree()
        self.copy = copy

    @property
    def by_place(self) -> bool:
        """Whether one can go on from places only."""
        return bool(self.windows or self.states.count)

    def extend(self, held: Held, positions: int) -> bool:
        """Make room for a step up to `positions`; False, and nothing taken, if there is not enough."""
        count = -(-positions // BLOCK)
        if self._settle(held) and count <= len(held.blocks):
            return True
        while len(self.blocks.free) < held.lacks(positions):
            if not self._forget_any():
                return False
        rows = [(pool, held.windows.setdefault(reach, Row()).numbers) for reach, pool in self.windows.items()]
        while any(len(pool.free) < count - len(numbers) for pool, numbers in rows):
            if not self._give_way():
                return False
        while not self._settle(held):
            if self.states.free:
                held.after = self.states.take()
            elif not self._give_way():
                return False
        for pool, numbers in [(self.blocks, held.blocks), *rows]:
            numbers += [pool.take() for _ in range(count - len(numbers))]
        held.read += [self.blocks.take() for _ in range(held.lacks(positions))]
        return True

    def _forget_any(self) -> bool:
        """Let go of the block that was not needed for longest; False if sequences hold all."""
        node = next((node for node in self.tree.nodes if self.blocks.holders[node.block] == 1), None)
        if node is not None:
            self.forget(node)
        return node is not None

    def own_last(self, held: Held) -> bool:
        """See that nobody else holds the last blocks, which will be written to; False if there can be no copies."""
        for reach, numbers in [(0, held.blocks), *((reach, row.numbers) for reach, row in held.windows.items())]:
            pool, give_way = (self.windows[reach], self._give_way) if reach else (self.blocks, self._forget_any)
            if pool.holders[numbers[-1]] == 1:
                continue
            while self.copy is None or not pool.free:
                if self.copy is None or not give_way():
                    return False
            number = pool.take()
            self.copy(reach, numbers[-1], number)
            pool.release([numbers[-1]])
            numbers[-1] = number
        return True

    def _settle(self, held: Held) -> bool:
        """Whether the next memory has a slot: that of the present one, unless others need that."""
        if held.after == NONE and held.state != NONE and self.states.holders[held.state] == 1:
            held.after = held.state
        return held.after != NONE or not self.states.count

    def _give_way(self) -> bool:
        """Let go of the place that was not needed for longest; before that, of those in the midst of texts."""
        placed = [(node, at, place) for node in self.tree.nodes for at, place in node.places.items()]
        node, at, _ = next((each for each in placed if each[2].midst), None) or next(iter(placed), (None, 0, None))
        if node is None:
            return False
        self._drop(node, at)
        for each in [*node.upwards()]:  # from which nobody can go on
            if each.children or each.places or self.blocks.holders[each.block] > 1:
                break
            self.forget(each)
        return True

    def _drop(self, node: Node, at: int) -> None:
        place = node.places.pop(at)
        for reach, row in place.windows.items():
            self.windows[reach].release(row.live)
        if place.state != NONE:
            self.states.release([place.state])

    def forget(self, node: Node) -> None:
        """Let go of what nothing goes on from."""
        for at in [*node.places]:
            self._drop(node, at)
        self.blocks.release([node.block])
        self.tree.remove(node)

    def advance(
        self, held: Held, computed: int, tokens: Sequence[int] = (), mark: int = 0, *, midst: bool = False
    ) -> None:
        """Note that a step is done and `computed` tokens are; others may share what stands for `tokens`.

        Behind `mark` of them, if that is not 0, others will go on.
        """
        if held.after not in (NONE, held.state):
            if held.state != NONE:
                self.states.release([held.state])
            held.state = held.after
        held.after = NONE
        if tokens and not held.text:
            self._share(held, tokens, computed)
            if mark:
                self.mark(held, tokens, mark, midst=midst)
        for reach, row in held.windows.items():
            first = first_within(reach, computed - 1)
            self.windows[reach].release(row.numbers[row.first : first])
            row.first = max(row.first, first)

    def _share(self, held: Held, tokens: Sequence[int], computed: int) -> None:
        """Put blocks that are full into the tree; take those that it has in their stead."""
        first = held.shared
        for i in range(first, computed // BLOCK):
            parent, said = held.node or self.tree.root(held.key), tuple(tokens[i * BLOCK : (i + 1) * BLOCK])
            node = parent.children.get(said)
            if node is None:
                node = self._add(parent, said, held.blocks[i])
            elif node.block != held.blocks[i]:  # somebody else computed the same
                self.blocks.hold([node.block])
                self.blocks.release([held.blocks[i]])
                held.blocks = [*held.blocks[:i], node.block, *held.blocks[i + 1 :]]
            held.node, held.shared = node, i + 1
        if held.node and held.shared > first:
            self.tree.touch(held.node)

    def mark(self, held: Held, tokens: Sequence[int], at: int, *, midst: bool = False) -> None:
        """Have others go on behind so many of the tokens that are computed, in the midst of a block if need be."""
        node = self._last(held, tokens[:at]) if at > held.shared * BLOCK else held.node.at(at) if held.node else None
        if node and self.by_place:
            self._hold_place(node, held, at, midst)

    def _last(self, held: Held, tokens: Sequence[int]) -> Node:
        """The node of the last ones of `tokens`, put into the tree if it is not there; less than a block of them."""
        node, rest = held.node or self.tree.root(held.key), tuple(tokens[held.shared * BLOCK :])
        if rest:
            node = node.children.get(rest) or self._add(node, rest, held.blocks[held.shared])
            self.tree.touch(node)
        return node

    def _add(self, parent: Node, tokens: tuple[int, ...], block: int) -> Node:
        """Put a block into the tree, in the stead of what that had of it before it was as full."""
        node = self.tree.add(parent, tokens, block)
        self.blocks.hold([block])
        for each in [*parent.children.values()]:
            if each.block == block and each is not node:
                node.places |= each.places
                each.places = {}
                self.forget(each)
        return node

    def _hold_place(self, node: Node, held: Held, at: int, midst: bool = False) -> None:
        """Hold what is needed to go on behind so many tokens, or one less; a slot stands for all that are computed."""
        held.placed = at
        if at in node.places:
            return
        windows = {reach: row.cut(first_within(reach, at - 1), -(-at // BLOCK)) for reach, row in held.windows.items()}
        node.places[at] = Place(windows, held.state, midst)
        self.hold(windows, held.state)

    def hold(self, windows: Mapping[int, Row], state: int) -> None:
        """Hold blocks by reach, and a slot, unless it is NONE."""
        for reach, row in windows.items():
            self.windows[reach].hold(row.live)
        if state != NONE:
            self.states.hold([state])

    def spare(self) -> int:
        """How many blocks are free, or would be if what no sequence holds gave way."""
        return _spare(self.blocks, (node.block for node in self.tree.nodes))

    def room_for(self, wanted: Sequence[tuple[Held, int]]) -> bool:
        """Whether all these could have so many positions at once, if what no sequence holds and places gave way."""
        counts = [(held, -(-positions // BLOCK)) for held, positions in wanted]
        if sum(held.lacks(positions) for held, positions in wanted) > self.spare():
            return False
        places = [place for node in self.tree.nodes for place in node.places.values()] if self.windows else []
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
        held.blocks, held.windows, held.state, held.after, held.read = [], {}, NONE, NONE, []
        held.node, held.shared, held.placed = None, 0, 0

    def keep(self, tokens: Sequence[int], held: Held) -> None:
        """Hold for later what a finished sequence holds; `tokens` are those that were computed.

        Not after a text that an encoder read: the same tokens mean something else after another one.
        """
        if tokens and not held.text:
            self._share(held, tokens, len(tokens))
            node = self._last(held, tokens)
            if self.by_place:
                self._hold_place(node, held, len(tokens))
                _devalue(node)
        self.release(held)


def _devalue(node: Node) -> None:
    """Of a conversation's own places only the last ones are more than others."""
    places: list[Place] = []
    for each in node.upwards():
        if len(each.children) > 1:
            break
        places += reversed(each.places.values())
    for place in places[ENDS:]:
        place.midst = True


def first_within(reach: int, position: int) -> int:
    """The first block that a token at a position may read."""
    return max(position - reach + 1, 0) // BLOCK


def _spare(pool: Pool, numbers: Iterable[int]) -> int:
    """How many are free, or would be if as many holders of these let go as they are named."""
    return len(pool.free) + sum(pool.holders[number] == count for number, count in Counter(numbers).items())
