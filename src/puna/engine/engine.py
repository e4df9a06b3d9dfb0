"""The engine: sequences are submitted, every step advances all of them, sampled tokens wait with each sequence."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from puna.cache import BLOCK
from puna.engine.choosing import Choosing, Chosen
from puna.engine.fair import FairLock
from puna.engine.foresight import Foresight
from puna.engine.held import Held
from puna.engine.memory import Memory
from puna.engine.runner import Runner
from puna.engine.sampler import Choice, Rules, Sampler, Sampling
from puna.engine.scheduler import Scheduler
from puna.engine.sequence import Sequence, StopReason
from puna.engine.speculate import Speculation, accept
from puna.engine.step import part, parts_of
from puna.errors import PromptTooLong, RequestError

if TYPE_CHECKING:
    from puna.engine.draft import Draft
    from puna.engine.reader import Reader

ENDLESS = 10
"""Contexts that an answer may fill which drops what is old."""


class _Turn(threading.Condition):
    """For whose end threads wait: a step that another one is at, if it is `taken`."""

    taken = False


class Engine:
    """Runs sequences on one Runner, and with a `reader` each after a text of its own, which an encoder reads.

    A `draft` says what they may say, so that it is computed in advance. Methods may be called from several threads; a
    step runs in the one that asks.
    """

    def __init__(
        self,
        runner: Runner,
        context_length: int,
        clock: Callable[[], float] = time.perf_counter,
        reader: Reader | None = None,
        draft: Draft | None = None,
    ) -> None:
        size = runner.limits
        self.context_length = context_length
        self._runner = runner
        self._reader = reader
        self._clock = clock
        self._lock = FairLock()
        self._turn = _Turn()
        self._always: Chosen = ()
        self._ended: deque[Sequence] = deque()  # cancelled, and perhaps still in the scheduler
        windows = {reach: slots // BLOCK for reach, slots in size.windows.items()}
        memory = Memory(size.slots // BLOCK, size.states if runner.recurrent else 0, windows, runner.copy)
        sequences = min(size.sequences, size.outputs, memory.states.count or size.sequences)
        self._scheduler = Scheduler(memory, size.tokens, sequences)
        self._speculation = self._speculates(memory, draft)

    def _speculates(self, memory: Memory, draft: Draft | None) -> Speculation | None:
        """None where a sequence's memory cannot be taken back to where its guesses were right."""
        size = self._runner.limits
        if self._runner.recurrent:
            return None
        return Speculation(memory, size.tokens, size.outputs, self.context_length, draft)

    def having(self, adapters: Chosen) -> Engine:
        """The same engine for who wants these adapters wherever they do not say otherwise."""
        if not adapters:
            return self
        found = copy(self)
        found._always = adapters
        return found

    def submit(
        self,
        tokens: Iterable[int],
        sampling: Sampling,
        *,
        limit: int = -1,
        stop_ids: Iterable[int] = (),
        constraint: Rules | None = None,
        text: Iterable[int] = (),
        keep: int | None = None,
        adapters: Chosen | None = None,
        ahead: int = 0,
        predicted: Iterable[int] = (),
    ) -> Sequence:
        """A new sequence after the prompt `tokens`; `limit` < 0 generates until the context is full.

        With `keep` a full context goes on from so many first tokens and the later half of the others, until as many as
        ENDLESS contexts are generated. At most `ahead` tokens are computed in advance, where that is worth while: of
        what was said before, or of a text that is `predicted`. `text` is what an encoder reads for it, where the model
        has one beside a decoder. `adapters` are those of the runner's `choosing` that it is to have. RequestError for
        an empty prompt or text; PromptTooLong where the prompt leaves no room for a token, or the text is longer than a
        context.
        """
        prompt = list(tokens)
        if not prompt:
            raise RequestError("the prompt is empty; at least one token is needed")
        room = self.context_length - len(prompt)
        if room < 1:
            raise PromptTooLong(len(prompt), self.context_length)
        most = room if keep is None else ENDLESS * self.context_length
        limit = most if limit < 0 else min(limit, most)
        sampler = Sampler(sampling, self._runner.best, constraint)
        sequence = Sequence(prompt, sampler, limit, frozenset(stop_ids), self._clock, keep)
        sequence.held.text, sequence.held.key = self._text(text), self._chosen(adapters)
        if self._speculation and ahead:
            sequence.foresight = Foresight(ahead, sequence.held.text, tuple(predicted), len(prompt))
        with self._lock:
            self._recheck(sequence.held.key)
            if limit == 0:
                sequence.reason = StopReason.LENGTH
            else:
                self._scheduler.waiting.append(sequence)
        return sequence

    @property
    def choosing(self) -> Choosing:
        """The adapters that sequences may have."""
        return self._runner.choosing

    def drop(self, adapter: int) -> None:
        """Let go of an adapter by its number; RequestError while a sequence has it."""
        with self._lock:
            self._take_out()
            having = [s for s in (*self._scheduler.running, *self._scheduler.waiting) if adapter in dict(s.held.key)]
            if having:
                raise RequestError(f"answers under way have it ({len(having)}); once they end it can be removed")
            self.choosing.remove(adapter)

    def _chosen(self, adapters: Chosen | None) -> Chosen:
        """Made ready here, so that no step waits for it."""
        adapters = self._always if adapters is None else adapters
        if adapters:
            self._runner.choosing.ready(adapters)
        return adapters

    def _recheck(self, adapters: Chosen) -> None:
        """RequestError where one was removed since it was chosen, or it would fail in a step of all."""
        if adapters:
            self.choosing.check(adapters)

    def _text(self, tokens: Iterable[int]) -> tuple[int, ...]:
        text = tuple(tokens)
        if bool(text) != (self._reader is not None):
            raise RequestError(f"the encoder's text has {len(text)} tokens; an encoder-decoder needs one, others none")
        if len(text) > self.context_length:
            raise PromptTooLong(len(text), self.context_length)
        return text

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence now; what it computed stays for a later one.

        Never waits for a step, in whose middle the garbage collector may close a generator, and so come here.
        """
        if sequence.reason is not None:
            return
        sequence.reason = StopReason.CANCELLED
        self._ended.append(sequence)
        if self._lock.acquire(blocking=False):
            try:
                self._take_out()
            finally:
                self._lock.release()

    def _take_out(self) -> None:
        while self._ended:
            self._scheduler.finish(self._ended.popleft())

    def tokens(self, sequence: Sequence) -> Iterator[Choice]:
        """The sequence's tokens as they come. Asking for one advances every sequence; leaving early cancels."""
        with closing(self.ready(sequence)) as ready:
            for choice in ready:
                if choice is None:
                    self.wait(sequence)
                else:
                    yield choice

    def ready(self, sequence: Sequence) -> Generator[Choice | None, None, None]:
        """The sequence's tokens, and None for each time that there are none yet; leaving early cancels.

        What went wrong with the sequence is raised where it ended.
        """
        try:
            while sequence.choices or not sequence.ended:
                yield sequence.choices.popleft() if sequence.choices else None
            if sequence.failure:
                raise sequence.failure
        finally:
            self.cancel(sequence)

    def wait(self, sequence: Sequence) -> None:
        """Until the sequence has tokens or ends, by steps of this thread's unless another one is at them."""
        while not sequence.choices and not sequence.ended:
            with self._turn:
                if self._turn.taken:
                    self._turn.wait()
                    continue
                self._turn.taken = True
            try:
                self.step()
            finally:
                with self._turn:
                    self._turn.taken = False
                    self._turn.notify_all()

    def step(self) -> None:
        """Compute and sample once for all sequences that are ready."""
        with self._lock:
            self._take_out()
            if plan := self._scheduler.plan():
                self._compute(plan, self._speculation.ahead(plan) if self._speculation else {})

    def _compute(self, plan: list[tuple[Sequence, int]], ahead: dict[Sequence, list[int]]) -> None:
        ready = [(s, ahead.get(s, [])) for s, count in plan if count == s.pending]
        parts, outputs = parts_of(plan, ahead)
        try:
            for sequence, _ in plan:
                self._read(sequence.held, sequence.computed)
            begun = self._clock()
            rows = iter(self._runner.step(parts, outputs))
        except BaseException:
            self._scheduler.restart([sequence for sequence, _ in plan])
            raise
        self._learn(plan, ahead, self._clock() - begun)
        right = {s: accept(s, list(islice(rows, 1 + len(more))), more) for s, more in ready}
        for sequence, count in plan:
            self._scheduler.advance(sequence, count + right.get(sequence, 0))
        for sequence, _ in ready:
            if sequence.reason is not None:
                self._scheduler.finish(sequence)
            elif len(sequence.tokens) >= self.context_length:
                self._scheduler.shift(sequence, self.context_length)

    def _learn(self, plan: list[tuple[Sequence, int]], ahead: dict[Sequence, list[int]], seconds: float) -> None:
        self._scheduler.pace.learn(sum(count for _, count in plan) + sum(map(len, ahead.values())), seconds)
        if self._speculation:
            self._speculation.note(plan, ahead, seconds)

    def _read(self, held: Held, computed: int) -> None:
        """Have the encoder read a sequence's text before its first step."""
        if self._reader is not None and computed == 0:
            self._reader.read(held.text, held.read)

    def forward(
        self, tokens: list[int], *, last: bool = False, text: Iterable[int] = (), adapters: Chosen | None = None
    ) -> NDArray[np.float32]:
        """Results for every token of a fresh sequence, or the last only: (rows, width). Leaves no state behind.

        `text` and `adapters` as for `submit`. Answers under way go on meanwhile.
        """
        out = np.empty((1 if last else len(tokens), self._runner.width), np.float32)
        for start, rows in self.results(tokens, last=last, text=text, adapters=adapters):
            out[0 if last else slice(start, start + len(rows))] = rows
        return out

    def results(
        self, tokens: list[int], *, last: bool = False, text: Iterable[int] = (), adapters: Chosen | None = None
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The same some tokens at a time, each time with how many were before; of `last` those of each time's last."""
        if not tokens:
            raise RequestError("no tokens: at least one is needed")
        if len(tokens) > self.context_length:
            raise PromptTooLong(len(tokens), self.context_length)
        held, start = Held(text=self._text(text), key=self._chosen(adapters)), 0
        try:
            while start < len(tokens):
                with self._lock:
                    self._take_out()
                    size = self._scheduler.room()
                    chunk = tokens[start : start + (size if last else min(size, self._runner.limits.outputs))]
                    rows = self._forward(chunk, start, held, last).copy()  # the next step may write there
                yield start, rows
                start += len(chunk)
        finally:
            with self._lock:
                self._scheduler.memory.release(held)

    def _forward(self, chunk: list[int], start: int, held: Held, last: bool) -> NDArray[np.float32]:
        """One step for a sequence of its own; results for all its tokens, or the last."""
        memory, count = self._scheduler.memory, len(chunk)
        if not memory.extend(held, start + count):
            raise RequestError("the cache is taken by running sequences; finish or cancel them first")
        self._read(held, start)
        rows = self._runner.step([part(chunk, start, held)], [count - 1] if last else list(range(count)))
        memory.advance(held, start + count)
        return rows[0] if last else rows

    # ---- what stands for a text -------------------------------------------------------------------------------------

    @property
    def runner(self) -> Runner:
        """What it runs sequences on."""
        return self._runner

    @property
    def reads(self) -> bool:
        """Whether an encoder reads texts for its sequences."""
        return self._reader is not None

    def following(self, prompts: Iterable[list[int]]) -> list[NDArray[np.float32]]:
        """The logits of what comes after each of several texts: beside each other, what they have in common once."""
        heard: list[list[NDArray[np.float32]]] = []
        sequences = []
        for prompt in prompts:
            sampler = Sampler(Sampling(temperature=0.0), self._runner.best)
            heard.append([])
            sequences.append(Sequence(list(prompt), sampler, 1, frozenset(), self._clock, heard=heard[-1]))
            sequences[-1].held.key = self._chosen(None)
        with self._lock:
            self._recheck(self._always)
            self._scheduler.waiting.extend(sequences)
        try:
            for sequence in sequences:
                for _ in self.tokens(sequence):
                    pass
        finally:
            for sequence in sequences:
                self.cancel(sequence)
        return [row for rows in heard for row in rows]

    @property
    def always(self) -> Chosen:
        """The adapters of sequences for which nothing else is said."""
        return self._always

    @contextmanager
    def alone(self) -> Iterator[Memory]:
        """The memory of its sequences, which nobody else does anything with meanwhile."""
        with self._lock:
            self._take_out()
            yield self._scheduler.memory
