"""What sequences hold of a model's memory, by number, and what a finished one left: not who else holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from puna.cache import BLOCK

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
class Place:
    """What is needed to go on behind some tokens: blocks by reach, and the slot of a memory."""

    windows: dict[int, Row]
    state: int


@dataclass(slots=True)
class Held:
    """What a sequence holds.

    `blocks` of all positions, and `windows` by reach. `state`: the slot of its memory now; `after`: of that behind the
    step under way. `places` by how many tokens they stand for, rising. `text`: tokens that an encoder reads for it, and
    `read` the blocks of them.
    """

    blocks: list[int] = field(default_factory=list)
    windows: dict[int, Row] = field(default_factory=dict)
    state: int = NONE
    after: int = NONE
    places: dict[int, Place] = field(default_factory=dict)
    text: tuple[int, ...] = ()
    read: list[int] = field(default_factory=list)

    def lacks(self, positions: int) -> int:
        """How many more blocks of all positions it would have with so many of them."""
        tokens, text = -(-positions // BLOCK) - len(self.blocks), -(-len(self.text) // BLOCK) - len(self.read)
        return max(tokens, 0) + text


@dataclass(slots=True, eq=False)
class Kept:
    """What a finished sequence left: `tokens` whose K/V are in `blocks`, and places, at least one."""

    tokens: list[int]
    blocks: list[int]
    places: dict[int, Place]
