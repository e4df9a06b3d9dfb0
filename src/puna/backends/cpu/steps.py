"""Steps: what the native executor runs one after another, and the phases they may share.

A *phase* ends with a barrier. Steps of one phase do not depend on each other, except on its *own* steps: tiny ones
that every thread does for itself, first, because that is cheaper than waiting for another thread's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from puna.backends.cpu.views import Storage, View

OWN_ELEMENTS = 1 << 16
"""A step that makes more elements than this for one token is shared even where it could be done by every thread."""


@dataclass(eq=False, slots=True)
class Step:
    """A kernel, its operands (the first is written; `also` too), and its numbers.

    `group`: steps of one group write parts of one storage that do not overlap. `tiny`: may be done by every thread.
    """

    kernel: str
    operands: tuple[View | None, ...]
    ints: tuple[int, ...] = ()
    floats: tuple[float, ...] = ()
    also: tuple[View, ...] = ()
    group: object = None
    tiny: bool = True
    label: str = ""
    writes: list[Storage] = field(init=False)
    reads: list[Storage] = field(init=False)
    """A storage that is written in place is among the writes only."""

    def __post_init__(self) -> None:
        self.writes = [v.storage for v in (self.operands[0], *self.also) if v is not None]
        self.reads = [v.storage for v in self.operands[1:] if v is not None and v.storage not in self.writes]

    def encoded(self) -> tuple[object, ...]:
        """As the native module takes it."""
        return self.kernel, [v and _encoded(v) for v in self.operands], list(self.ints), list(self.floats)


ELEMENTS = {"F32": 0, "I32": 1, "BOOL": 2}
BYTES = 3


def _encoded(view: View) -> tuple[object, ...]:
    element = ELEMENTS.get(view.dtype.name, BYTES)
    return view.storage.index, view.offset, element, list(view.shape), list(view.strides)


@dataclass(slots=True)
class Phase:
    """Indices of steps between two barriers."""

    own: list[int] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)


def is_own(step: Step) -> bool:
    """Whether every thread may do a step for itself: it is tiny, and nobody else needs what it writes to be one."""
    if not step.tiny or any(s.fixed or s.common or s.array is not None for s in step.writes):
        return False
    ones = {"T": 1, "O": 1, "S": 1}
    return all(s.nbytes(ones) <= 4 * OWN_ELEMENTS for s in step.writes)


def phases(steps: Sequence[Step], *, own: bool) -> list[Phase]:
    """Every step as early as what it reads and overwrites allows; with `own`, tiny steps are done by every thread."""
    out: list[Phase] = []
    written: dict[Storage, tuple[int, bool, object]] = {}  # level, own, group
    read: dict[Storage, int] = {}
    for index, step in enumerate(steps):
        mine = own and is_own(step)
        level = 0
        for storage in (*step.reads, *step.writes):
            if storage in written:
                at, private, group = written[storage]
                together = private or (group is not None and group is step.group)
                level = max(level, at if together else at + 1)
        for storage in step.writes:
            level = max(level, read.get(storage, -1) + 1)
        for storage in step.writes:
            written[storage] = (max(level, written.get(storage, (0,))[0]), mine, step.group)
        for storage in step.reads:
            read[storage] = max(level, read.get(storage, -1))
        out.extend(Phase() for _ in range(level + 1 - len(out)))
        (out[level].own if mine else out[level].shared).append(index)
    return out
