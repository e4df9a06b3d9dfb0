"""Who holds which memory of a model, and what is there for others to begin with.

Positions lie in blocks, which several sequences may hold whose tokens up to a block's end are the same: whole ones are
in a tree as soon as they are computed. What only reads the latest positions has pools of its own, where blocks out of
reach are let go of. Memory per sequence is in slots; it stands for one number of tokens and cannot be taken back. So
what one needs to go on from some *places*, besides blocks of all positions, is held for others: blocks within reach,
and a slot, in whose stead the next step takes another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from puna.cache import BLOCK
from puna.engine.held import NONE, Held, Row
from puna.engine.pool import Pool
from puna.engine.tree import Node, Place, Tree, alike

if TYPE_CHECKING:
    from puna.engine.choosing import Chosen

ENDS = 2
"""The places of a conversation that are worth most: its last prompt's end, and its own."""


class Found(NamedTuple):
    """What stands for the first `length` of some tokens: all up to `node`, and the `place` that they go on from."""

    node: Node
    length: int
    place: Place


class Memory:
    """`blocks` of BLOCK positions, as many as `windows` says by reach, and `states` slots, 0 for a model without.

    What no sequence holds gives way to others, what was needed last at last.
    """

    def __init__(self, blocks: int, states: int = 0, windows: Mapping[int, int] = {}) -> None:
        self.blocks = Pool(blocks)
        self.states = Pool(states)
        self.windows = {reach: Pool(count) for reach, count in windows.items()}
        self.tree = Tree()

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
            node = next((node for node in self.tree.nodes if self.blocks.holders[node.block] == 1), None)
            if node is None:
                return False
            self.forget(node)
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

        Hold a place behind `mark` of them, a whole number of blocks, if that is not 0.
        """
        if held.after not in (NONE, held.state):
            if held.state != NONE:
                self.states.release([held.state])
            held.state = held.after
        held.after = NONE
        if tokens and not held.text:
            self._share(held, tokens, computed)
        if mark and held.node:
            self._hold_place(held.node.at(mark), held, mark, midst)
        for reach, row in held.windows.items():
            first = _first(reach, computed - 1)
            self.windows[reach].release(row.numbers[row.first : first])
            row.first = max(row.first, first)

    def _share(self, held: Held, tokens: Sequence[int], computed: int) -> None:
        """Put blocks that are full into the tree; take those that it has in their stead."""
        first = held.shared
        for i in range(first, computed // BLOCK):
            parent, said = held.node or self.tree.root(held.key), tuple(tokens[i * BLOCK : (i + 1) * BLOCK])
            node = parent.children.get(said)
            if node is None:
                node = self.tree.add(parent, said, held.blocks[i])
                self.blocks.hold([node.block])
            elif node.block != held.blocks[i]:  # somebody else computed the same
                self.blocks.hold([node.block])
                self.blocks.release([held.blocks[i]])
                held.blocks = [*held.blocks[:i], node.block, *held.blocks[i + 1 :]]
            held.node, held.shared = node, i + 1
        if held.node and held.shared > first:
            self.tree.touch(held.node)

    def _hold_place(self, node: Node, held: Held, at: int, midst: bool = False) -> None:
        """Hold what is needed to go on behind so many tokens, or one less; a slot stands for all that are computed."""
        held.placed = at
        if at in node.places:
            return
        windows = {reach: row.cut(_first(reach, at - 1), -(-at // BLOCK)) for reach, row in held.windows.items()}
        node.places[at] = Place(windows, held.state, midst)
        self._hold(windows, held.state)

    def _hold(self, windows: Mapping[int, Row], state: int) -> None:
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
            node, rest = held.node or self.tree.root(held.key), tuple(tokens[held.shared * BLOCK :])
            if rest:
                block = held.blocks[held.shared]
                if rest not in node.children:
                    self.tree.add(node, rest, block)
                    self.blocks.hold([block])
                node = node.children[rest]
            if self.by_place:
                self._hold_place(node, held, len(tokens))
                _devalue(node)
            self.tree.touch(node)
        self.release(held)

    def find(self, tokens: Sequence[int], key: Chosen = ()) -> Found:
        """What already stands for a beginning of `tokens`: whole blocks, and behind them a part of one.

        That part, if it is most of what a conversation ended with, will be taken from that.
        """
        node = self.tree.walk(tokens, key)
        rest = tokens[node.end : node.end + BLOCK]
        ends = [(alike(child.tokens, rest), child) for child in node.children.values() if self._may_be_taken(child)]
        count, last = max(ends, default=(0, node), key=lambda end: end[0])
        last, common = (last, node.end + count) if count and 2 * count >= len(last.tokens) else (node, node.end)
        if not self.by_place:
            return Found(last, common, Place({}))
        beyond = () if self.states.count else node.below()  # where a memory is of no use
        places = [(at, place, each is last) for each in (*last.upwards(), *beyond) for at, place in each.places.items()]
        usable = [(_usable(at, place, common if within else node.end), place) for at, place, within in places]
        length, place = max(usable, default=(0, Place({})), key=lambda each: each[0])
        return Found(last.at(length) if length else node, length, place)

    def _may_be_taken(self, node: Node) -> bool:
        return not node.children and self.blocks.holders[node.block] == 1

    def begin(self, found: Found, key: Chosen = ()) -> Held:
        """What a sequence holds that begins with what was found."""
        node, length, place = found
        if not length:
            return Held(key=key)
        count = -(-length // BLOCK)
        windows = {reach: row.cut(0, count) for reach, row in place.windows.items()}
        path = [*node.upwards()]
        held = Held([each.block for each in reversed(path)], windows, place.state, key=key, placed=length)
        self.blocks.hold(held.blocks)
        self._hold(windows, place.state)
        self.tree.touch(node)
        if length % BLOCK:
            self.forget(node)
            path = path[1:]
        held.node, held.shared = next(iter(path), None), len(path)
        return held


def _usable(at: int, place: Place, most: int) -> int:
    """How many of `most` tokens one can go on behind from a place, 0 for none; a memory stands for its own alone."""
    length = min(at, most)
    held = all(_first(reach, length) >= row.first for reach, row in place.windows.items())
    return length if held and (place.state == NONE or length == at) else 0


def _devalue(node: Node) -> None:
    """Of a conversation's own places only the last ones are more than others."""
    places: list[Place] = []
    for each in node.upwards():
        if len(each.children) > 1:
            break
        places += reversed(each.places.values())
    for place in places[ENDS:]:
        place.midst = True


def _first(reach: int, position: int) -> int:
    """The first block that a token at a position may read."""
    return max(position - reach + 1, 0) // BLOCK


def _spare(pool: Pool, numbers: Iterable[int]) -> int:
    """How many are free, or would be if as many holders of these let go as they are named."""
    return len(pool.free) + sum(pool.holders[number] == count for number, count in Counter(numbers).items())
