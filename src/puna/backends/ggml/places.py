"""Where weights and states lie: on the first device as far as it has room, then on the next.

What one op reads lies together. Sizes and nodes only: it knows no device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from puna.graph.tensor import Tensor as Node

LEAVES = ("weight", "state")


def leaf_of(node: Node) -> Node | None:
    """The weight or the state that an input is; of a written state, what it was."""
    while node.op == "write":
        node = node.inputs[0]
    return node if node.op in LEAVES else None


def leaves_of(node: Node, but: Iterable[int] = ()) -> list[Node]:
    """The weights and states that a node reads, but for those inputs."""
    found = [None if i is None or at in but else leaf_of(i) for at, i in enumerate(node.inputs)]
    return [leaf for leaf in found if leaf is not None]


def together(reads: Iterable[Sequence[Node]]) -> list[list[Node]]:
    """Groups of leaves that nodes read together, in the order that they are first read."""
    group: dict[Node, list[Node]] = {}
    for leaves in reads:
        groups = list({id(group[leaf]): group[leaf] for leaf in leaves if leaf in group}.values())
        new = [leaf for leaf in dict.fromkeys(leaves) if leaf not in group]
        whole = groups[0] if groups else []
        for other in groups[1:]:
            whole += other
        whole += new
        group |= dict.fromkeys(whole, whole)
    return list({id(each): each for each in group.values()}.values())


def placed(groups: Iterable[Sequence[Node]], size: Callable[[Node], int], rooms: Sequence[int]) -> dict[Node, int]:
    """The device of each leaf: groups fill one `rooms` after another; the last one takes what is left."""
    at, used = 0, 0
    found: dict[Node, int] = {}
    for group in groups:
        needed = sum(map(size, group))
        while at < len(rooms) - 1 and used + needed > rooms[at]:
            at, used = at + 1, 0
        used += needed
        found |= dict.fromkeys(group, at)
    return found
