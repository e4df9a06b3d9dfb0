"""Which tokens go into the next step: one for every sequence that is generating, the rest of the room for prompts.

Prompts take it in order of arrival, and every other step those of which the least is left come first: a short one does
not wait for long ones, nor these for ever.
Sequences are admitted in order of arrival, the first always, others where their tokens have room. When blocks run out
the youngest gives up its own and waits to be computed again; its tokens and its sampler stay, so its text does not
change. Who begins like one that is being read waits for that, and goes on from there: it would have come after it.
Places from which a text like theirs could go on are held on the way, and where sequences have memory of their own,
steps end there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from puna.cache import BLOCK
from puna.engine import beginning
from puna.engine.memory import Memory
from puna.engine.pace import Pace
from puna.engine.sequence import Sequence
from puna.engine.tree import alike, all_alike, blocks_alike

if TYPE_CHECKING:
    from puna.engine.choosing import Chosen

FAR = 2048
"""Tokens of a prompt from one place to the next, at least; and as many windows, which a place holds one of."""
WINDOWS = 4

LEAST = 8
"""Tokens of a block that it is worth to copy it for."""
WORTH = 32
"""Tokens that it is worth to wait for."""


@dataclass(slots=True)
class Scheduler:
    """`max_tokens` and `max_sequences` bound one step."""

    memory: Memory
    max_tokens: int
    max_sequences: int
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    shortest: bool = True  # whether prompts of which the least is left were foremost in the step before

    def plan(self) -> list[tuple[Sequence, int]]:
        """Sequences with how many of their pending tokens to compute now; blocks for them are allotted."""
        self._admit()
        self._begin()
        room, step = self.room(), []
        self.shortest = not self.shortest
        for sequence in sorted(self.running, key=lambda s: (s.pending > 1, self.shortest and s.pending)):
            count = self._until_mark(sequence, min(sequence.pending, room))
            if count == 0 or sequence.awaits or sequence not in self.running:
                continue
            if self._allot(sequence, sequence.computed + count):
                step.append((sequence, count))
                room -= count
        return [(s, n) for s, n in step if s in self.running]

    def room(self) -> int:
        """Tokens that the next step has room for, so that answers under way do not stand still for long."""
        return self.pace.room(sum(s.pending == 1 for s in self.running), self.max_tokens)

    def _until_mark(self, sequence: Sequence, count: int) -> int:
        """No more tokens than up to where a place will be held that is for one number of them."""
        end = sequence.computed + count
        mark = min(end, (sequence.prompt_length - 1) // BLOCK * BLOCK) // BLOCK * BLOCK
        marks = [*sequence.marks] if self.memory.by_place else []
        marks += [mark] if self.memory.states.count else []
        return min([end, *(at for at in marks if at > sequence.computed)]) - sequence.computed

    def advance(self, sequence: Sequence, count: int) -> None:
        """Note that `count` tokens more are computed; where a prompt ends, and on the way, hold a place."""
        sequence.computed += count
        mark, midst = self._mark(sequence, count)
        self.memory.advance(sequence.held, sequence.computed, sequence.tokens, mark, midst=midst)

    def _mark(self, sequence: Sequence, count: int) -> tuple[int, bool]:
        """Where, within the latest `count` tokens, others may go on, and if it is in the midst; 0 for nowhere."""
        passed = [at for at in sequence.marks if at <= sequence.computed]
        sequence.marks = [at for at in sequence.marks if at > sequence.computed]
        if passed or not self.memory.by_place:
            return max(passed, default=0), False
        last = (sequence.prompt_length - 1) // BLOCK * BLOCK
        at = min(sequence.computed, last) // BLOCK * BLOCK
        if at <= sequence.computed - count or (self.memory.states.count and at != sequence.computed):
            return 0, False
        far = max([FAR, *(WINDOWS * reach for reach in self.memory.windows)])
        return (at if at == last or at - sequence.held.placed >= far else 0), at != last

    def _begin(self) -> None:
        """Give sequences that have nothing what stands for their beginning, unless one before them comes to more."""
        for i, sequence in enumerate(self.running):
            if sequence.held.blocks or sequence.held.text or self._waits(sequence):
                continue
            tokens, key = sequence.tokens[:-1], sequence.held.key
            if self.memory.copy and not self.memory.by_place:
                self._offer(self.running[:i], tokens, key)
            found = beginning.find(self.memory, tokens, key)
            sequence.awaits = self._ahead(self.running[:i], tokens, key, found.length + WORTH)
            if sequence.awaits:
                sequence.awaits[0].marks.append(sequence.awaits[1])
                continue
            sequence.held, sequence.computed = beginning.begin(self.memory, found, key)
            sequence.cached = sequence.cached or sequence.computed

    def _offer(self, others: Iterable[Sequence], tokens: list[int], key: Chosen) -> None:
        """Have the tree know what others have of a block that they still fill, where a text begins like that."""
        node = self.memory.tree.walk(tokens, key)
        near = [s for s in others if s.held.key == key and s.held.shared * BLOCK == node.end and not s.held.text]
        there = [s for s in near if s.held.node is node or not node.end]
        alike_ = [(alike(tokens[node.end : node.end + BLOCK], s.tokens[node.end : s.computed]), s) for s in there]
        count, first = max(alike_, default=(0, None), key=lambda each: each[0])
        if first and count >= LEAST:
            self.memory.mark(first.held, first.tokens, node.end + count)

    def _ahead(
        self, others: Iterable[Sequence], tokens: list[int], key: Chosen, least: int
    ) -> tuple[Sequence, int] | None:
        """Who will have computed most of a beginning, and how much; None if that is less than `least`."""
        alike = blocks_alike if self.memory.copy is None else all_alike
        reading = [s for s in others if s.pending > 1 and s.held.key == key and not s.held.text]
        shared = [(s, alike(s.tokens, tokens)) for s in reading]
        coming = [(s, count) for s, count in shared if count >= least and count > s.computed]
        return max(coming, default=None, key=lambda each: each[1])

    def _waits(self, sequence: Sequence) -> bool:
        """Whether what a sequence waits for is still to come."""
        first, count = sequence.awaits or (None, 0)
        if first not in self.running or first.computed >= count:
            sequence.awaits = None
        return sequence.awaits is not None

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_sequences:
            if self.running and not self._room_for(self.waiting[0]):
                return  # its prompt would be computed in part, and given up again
            self.running.append(self.waiting.popleft())

    def _room_for(self, sequence: Sequence) -> bool:
        """Whether its tokens have room beside those of all that run."""
        return self.memory.room_for([(s.held, len(s.tokens)) for s in (*self.running, sequence)])

    def _allot(self, sequence: Sequence, positions: int) -> bool:
        """Blocks for `positions`, taken from younger sequences if need be; False if it must wait itself."""
        while not self.memory.extend(sequence.held, positions):
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.memory.release(sequence.held)
        sequence.computed, sequence.marks = 0, []
        for other in (sequence, *self.running):
            if other is sequence or (other.awaits and other.awaits[0] is sequence):
                other.awaits = None
        self.waiting.appendleft(sequence)

    def shift(self, sequence: Sequence, context_length: int) -> None:
        """Make room in a full context; what stays of it is computed again, but for what it begins with."""
        self.memory.keep(sequence.tokens[: sequence.computed], sequence.held)
        sequence.shift(context_length)
        sequence.computed = 0

    def restart(self, sequences: Iterable[Sequence]) -> None:
        """After a step that broke off: what it has left of these sequences' memory is not to be gone on from."""
        if self.memory.states.count:
            for sequence in reversed([s for s in self.running if s in sequences]):
                self._preempt(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Take an ended sequence out, if it is in; what it computed is kept for one that continues it."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        else:
            return
        self.memory.keep(sequence.tokens[: sequence.computed], sequence.held)
