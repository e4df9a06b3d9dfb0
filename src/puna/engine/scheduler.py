"""Which tokens go into the next step: one for every sequence that is generating, the rest of the room for prompts.

Sequences are admitted in order of arrival, the first always, others where their tokens have room. When blocks run out
the youngest gives up its own and waits to be computed again; its tokens and its sampler stay, so its text does not
change.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from puna.cache import BLOCK
from puna.engine.blocks import Blocks
from puna.engine.sequence import Sequence


@dataclass(slots=True)
class Scheduler:
    """`max_tokens` and `max_sequences` bound one step."""

    blocks: Blocks
    max_tokens: int
    max_sequences: int
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)

    def plan(self) -> list[tuple[Sequence, int]]:
        """Sequences with how many of their pending tokens to compute now; blocks for them are allotted."""
        self._admit()
        room, step = self.max_tokens, []
        for sequence in sorted(self.running, key=lambda s: s.pending > 1):
            count = min(sequence.pending, room)
            if count == 0 or sequence not in self.running:
                continue
            if self._allot(sequence, sequence.computed + count):
                step.append((sequence, count))
                room -= count
        return [(s, n) for s, n in step if s in self.running]

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_sequences:
            if self.running and not self._room_for(self.waiting[0]):
                return  # its prompt would be computed in part, and given up again
            sequence = self.waiting.popleft()
            if not sequence.blocks:
                sequence.blocks, sequence.computed = self.blocks.reuse(sequence.tokens[:-1])
                sequence.cached = sequence.cached or sequence.computed
            self.running.append(sequence)

    def _room_for(self, sequence: Sequence) -> bool:
        """Whether its tokens have room beside those of all that run."""
        missing = (-(-len(s.tokens) // BLOCK) - len(s.blocks) for s in (*self.running, sequence))
        return sum(max(count, 0) for count in missing) <= self.blocks.spare()

    def _allot(self, sequence: Sequence, positions: int) -> bool:
        """Blocks for `positions`, taken from younger sequences if need be; False if it must wait itself."""
        while not self.blocks.extend(sequence.blocks, positions):
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.blocks.release(sequence.blocks)
        sequence.blocks, sequence.computed = [], 0
        self.waiting.appendleft(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Take an ended sequence out, if it is in; what it computed is kept for one that continues it."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        else:
            return
        self.blocks.keep(sequence.tokens[: sequence.computed], sequence.blocks)
        sequence.blocks = []
