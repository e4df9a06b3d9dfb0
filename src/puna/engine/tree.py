"""What was computed, by the tokens that it stands for: a tree of blocks, in order of need. Not who else holds them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from puna.cache import BLOCK
from puna.engine.held import NONE, Row


@dataclass(slots=True)
class Place:
    """What is needed to go on behind some tokens: blocks by reach, and the slot of a memory.

    One in the `midst` of a text is worth less than others.
    """

    windows: dict[int, Row]
    state: int = NONE
    midst: bool = False


@dataclass(slots=True, eq=False)
class Node:
    """A block and its tokens, the first of which is the text's `start`-th; less than BLOCK only without children.

    `places` within it by how many tokens of the text they stand for.
    """

    tokens: tuple[int, ...] = ()
    block: int = NONE
    parent: Node | None = None
    start: int = 0
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """How many tokens the text has up to its end."""
        return self.start + len(self.tokens)

    def upwards(self) -> Iterator[Node]:
        """Itself and the nodes before it, the first of a text last."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent

    def below(self) -> Iterator[Node]:
        """All that go on from it."""
        left = [*self.children.values()]
        while left:
            yield (node := left.pop())
            left += node.children.values()

    def at(self, length: int) -> Node:
        """The one among itself and those before it that has the text's `length`-th token."""
        return next(node for node in self.upwards() if node.start < length)


class Tree:
    """Texts by `key`: those of one key have nothing to do with those of another.

    `nodes`: what was needed last is last, and no node is before one that goes on from it.
    """

    def __init__(self) -> None:
        self.nodes: dict[Node, None] = {}
        self._roots: dict[Hashable, Node] = {}

    def root(self, key: Hashable) -> Node:
        """What all texts of a key go on from."""
        return self._roots.setdefault(key, Node())

    def walk(self, tokens: Sequence[int], key: Hashable) -> Node:
        """The end of the whole blocks that `tokens` begin with."""
        node = self._roots.get(key) or Node()
        while child := node.children.get(tuple(tokens[node.end : node.end + BLOCK])):
            if len(child.tokens) < BLOCK:
                break
            node = child
        return node

    def add(self, parent: Node, tokens: tuple[int, ...], block: int) -> Node:
        """A node behind another one, which does not have it yet; to be touched next."""
        node = parent.children[tokens] = Node(tokens, block, parent, parent.end)
        self.nodes[node] = None
        return node

    def touch(self, node: Node) -> None:
        """Note that a text is needed."""
        for each in node.upwards():
            self.nodes.pop(each)
            self.nodes[each] = None

    def remove(self, node: Node) -> None:
        """Take out one that nothing goes on from."""
        assert node.parent is not None
        del node.parent.children[node.tokens], self.nodes[node]
        if not node.parent.children:
            self._roots = {key: root for key, root in self._roots.items() if root.children}


def alike(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    limit = min(len(a), len(b))
    return next((i for i in range(limit) if a[i] != b[i]), limit)


def blocks_alike(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal, in whole blocks."""
    limit = min(len(a), len(b)) // BLOCK * BLOCK
    return next((i for i in range(0, limit, BLOCK) if a[i : i + BLOCK] != b[i : i + BLOCK]), limit)


def all_alike(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal, of long texts."""
    n = blocks_alike(a, b)
    return n + alike(a[n : n + BLOCK], b[n : n + BLOCK])
