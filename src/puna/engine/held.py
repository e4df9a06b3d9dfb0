"""What sequences hold of a model's memory, by number: not who else holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from puna.cache import BLOCK

if TYPE_CHECKING:
    from puna.engine.choosing import Chosen
    from puna.engine.tree import Node

NONE = -1
"""The number of no slot."""


@dataclass(slots=True)
class Row:
    """Blocks of a sequence in one pool, by index; those before `first` are let go of, their numbers mean nothing."""

    numbers: list[int] = field(default_factory=list)
    first: int = 0

    @property
    def live(self) -> list[int]:
        """What is held."""
        return self.numbers[self.first :]

    def cut(self, first: int, end: int) -> Row:
        """The blocks from index `first` to `end`, as far as they are held."""
        return Row(self.numbers[:end], max(self.first, first))


@dataclass(slots=True)
class Held:
    """What a sequence holds.

    `blocks` of all positions, and `windows` by reach. `state`: the slot of its memory now; `after`: of that behind the
    step under way. `text`: tokens that an encoder reads for it, and `read` the blocks of them. `key` is of texts whose
    beginnings it may share: the adapters that it is computed with; of its blocks `shared` are in the tree, the last of
    them in `node`, and its latest place is behind `placed` tokens.
    """

    blocks: list[int] = field(default_factory=list)
    windows: dict[int, Row] = field(default_factory=dict)
    state: int = NONE
    after: int = NONE
    text: tuple[int, ...] = ()
    read: list[int] = field(default_factory=list)
    key: Chosen = ()
    node: Node | None = None
    shared: int = 0
    placed: int = 0

    def lacks(self, positions: int) -> int:
        """How many more blocks of all positions it would have with so many of them."""
        tokens, text = -(-positions // BLOCK) - len(self.blocks), -(-len(self.text) // BLOCK) - len(self.read)
        return max(tokens, 0) + text
