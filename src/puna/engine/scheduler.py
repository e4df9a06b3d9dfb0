"""Which tokens go into the next step: one for every sequence that is generating, the rest of the room for prompts.

Sequences are admitted in order of arrival, the first always, others where their tokens have room. When blocks run out
the youngest gives up its own and waits to be computed again; its tokens and its sampler stay, so its text does not
change. Places from which a text like theirs could go on are held on the way, and where sequences have memory of their
own, steps end there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from puna.cache import BLOCK
from puna.engine.memory import Memory
from puna.engine.sequence import Sequence

FAR = 2048
"""Tokens of a prompt from one place to the next, at least; and as many windows, which a place holds one of."""
WINDOWS = 4


@dataclass(slots=True)
class Scheduler:
    """`max_tokens` and `max_sequences` bound one step."""

    memory: Memory
    max_tokens: int
    max_sequences: int
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)

    def plan(self) -> list[tuple[Sequence, int]]:
        """Sequences with how many of their pending tokens to compute now; blocks for them are allotted."""
        self._admit()
        room, step = self.max_tokens, []
        for sequence in sorted(self.running, key=lambda s: s.pending > 1):
            count = self._until_mark(sequence, min(sequence.pending, room))
            if count == 0 or sequence not in self.running:
                continue
            if self._allot(sequence, sequence.computed + count):
                step.append((sequence, count))
                room -= count
        return [(s, n) for s, n in step if s in self.running]

    def _until_mark(self, sequence: Sequence, count: int) -> int:
        """No more tokens than up to where a memory may be held: a prompt's last whole block, or the end of others."""
        end = sequence.computed + count
        mark = min(end, (sequence.prompt_length - 1) // BLOCK * BLOCK) // BLOCK * BLOCK
        return mark - sequence.computed if self.memory.states.count and mark > sequence.computed else count

    def advance(self, sequence: Sequence, count: int) -> None:
        """Note that `count` tokens more are computed; where a prompt ends, and on the way, hold a place."""
        sequence.computed += count
        self.memory.advance(sequence.held, sequence.computed, self._mark(sequence, count))

    def _mark(self, sequence: Sequence, count: int) -> int:
        """Where, within the latest `count` tokens, to hold a place; 0 for nowhere."""
        last = (sequence.prompt_length - 1) // BLOCK * BLOCK
        at = min(sequence.computed, last) // BLOCK * BLOCK
        if at <= sequence.computed - count or (self.memory.states.count and at != sequence.computed):
            return 0
        far = max([FAR, *(WINDOWS * reach for reach in self.memory.windows)])
        return at if at == last or at - max(sequence.held.places, default=0) >= far else 0

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_sequences:
            if self.running and not self._room_for(self.waiting[0]):
                return  # its prompt would be computed in part, and given up again
            sequence = self.waiting.popleft()
            if not sequence.held.blocks and not sequence.held.text:
                sequence.held, sequence.computed = self.memory.reuse(sequence.tokens[:-1])
                sequence.cached = sequence.cached or sequence.computed
            self.running.append(sequence)

    def _room_for(self, sequence: Sequence) -> bool:
        """Whether its tokens have room beside those of all that run."""
        return self.memory.room_for([(s.held, len(s.tokens)) for s in (*self.running, sequence)])

    def _allot(self, sequence: Sequence, positions: int) -> bool:
        """Blocks for `positions`, taken from younger sequences if need be; False if it must wait itself."""
        while not self.memory.extend(sequence.held, positions, (s.held for s in self.running)):
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.memory.release(sequence.held)
        sequence.computed = 0
        self.waiting.appendleft(sequence)

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
