"""What a text may begin with instead of being computed, found in a memory's tree and held for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from puna.cache import BLOCK
from puna.engine.held import NONE, Held
from puna.engine.memory import Memory, first_within
from puna.engine.tree import Node, Place, alike

if TYPE_CHECKING:
    from puna.engine.choosing import Chosen

NOWHERE = Place({})


class Found(NamedTuple):
    """What stands for the first `length` of some tokens: all up to `node`, and the `place` that they go on from."""

    node: Node
    length: int
    place: Place


def find(memory: Memory, tokens: Sequence[int], key: Chosen = ()) -> Found:
    """What already stands for a beginning of `tokens`: whole blocks, and behind them a part of one.

    That part is copied; where that cannot be, it is taken from what a conversation ended with, if it is most of that.
    """
    node = memory.tree.walk(tokens, key)
    rest = tokens[node.end : node.end + BLOCK]
    parts = [(alike(child.tokens, rest), _is_free(memory, child), child) for child in node.children.values()]
    if memory.copy is None:
        parts = [(count, free, child) for count, free, child in parts if free and 2 * count >= len(child.tokens)]
    count, _, last = max(parts, default=(0, True, node), key=lambda part: part[:2])
    last, common = (last, node.end + count) if count else (node, node.end)
    if not memory.by_place:
        return Found(last, common, NOWHERE)
    nodes = [(each, True) for each in last.upwards()]
    if not memory.states.count:  # a memory is of no use for less than it stands for
        nodes += [(each, True) for each in last.below()] + [(each, False) for each in node.below()]
    places = [(at, place, within) for each, within in nodes for at, place in each.places.items()]
    usable = [(_usable(at, place, common if within else node.end), within, place) for at, place, within in places]
    if memory.copy is None:
        usable = [(length, within, place) for length, within, place in usable if within or length % BLOCK == 0]
    length, _, place = max(usable, default=(0, False, NOWHERE), key=lambda each: each[0])
    return Found(last.at(length) if length else node, length, place)


def begin(memory: Memory, found: Found, key: Chosen = ()) -> tuple[Held, int]:
    """What a sequence holds that begins with what was found, and for how many tokens it stands.

    Those are less than were found where there is no room for a copy of a block that is partly the same.
    """
    node, length, place = found
    if not length:
        return Held(key=key), 0
    path, count = [*node.upwards()], -(-length // BLOCK)
    windows = {reach: row.cut(0, count) for reach, row in place.windows.items()}
    held = Held([each.block for each in reversed(path)], windows, place.state, key=key, placed=length)
    memory.blocks.hold(held.blocks)
    memory.hold(windows, place.state)
    memory.tree.touch(node)
    if length % BLOCK:
        if _is_free(memory, node, 2) and (length == node.end or memory.copy is None):
            memory.forget(node)  # and is taken over
        path = path[1:]
        if not memory.own_last(held):
            memory.release(held)
            return begin(memory, Found(path[0], path[0].end, NOWHERE)) if path and not memory.by_place else (held, 0)
    held.node, held.shared = next(iter(path), None), len(path)
    return held, length


def _is_free(memory: Memory, node: Node, holders: int = 1) -> bool:
    """Whether nothing goes on from a node, and as few hold it."""
    return not node.children and memory.blocks.holders[node.block] == holders


def _usable(at: int, place: Place, most: int) -> int:
    """How many of `most` tokens one can go on behind from a place, 0 for none; a memory stands for its own alone."""
    length = min(at, most)
    held = all(first_within(reach, length) >= row.first for reach, row in place.windows.items())
    return length if held and (place.state == NONE or length == at) else 0
