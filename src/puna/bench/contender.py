"""Puna as a contender: the engine's runner, driven on token ids, with sessions of any size beside each other.

Nobody samples in what is measured: a contender computes logits and throws them away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from puna.backends.base import Program
from puna.bench.work import Work
from puna.cache import BLOCK
from puna.engine.limits import CHUNK, Limits
from puna.engine.runner import Runner
from puna.engine.step import Part
from puna.errors import ModelError
from puna.runtime import Runtime

TOKENS = 4096
"""Ids that prompts are made of, at most."""


class Session(Protocol):
    """Memory for one piece of work, and a way to do it."""

    setting: str

    def run(self) -> float:
        """Do the work once, and give the seconds that it took."""
        ...


class Contender(Protocol):
    """A loaded model."""

    name: str
    load_seconds: float

    def session(self, work: Work) -> Session:
        """Memory for a piece of work."""
        ...


def prompt(length: int, vocabulary: int) -> list[int]:
    """Ids as a text has them: many different ones, the same every time."""
    most = min(TOKENS, vocabulary)
    return [int(i) for i in np.random.default_rng(1).integers(min(100, most // 2), most, length)]


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Puna:
    """A model in this process."""

    name = "puna"

    def __init__(self, make: Callable[[str], Runtime]) -> None:
        """`make` opens the model for a type of K/V."""
        self._make = make
        self._runtimes: dict[str, Runtime] = {}
        self._opening = self.load_seconds = 0.0

    def runtime(self, kv_type: str) -> Runtime:
        """The model with one type of K/V."""
        if kv_type not in self._runtimes:
            begun = time.perf_counter()
            made = self._make(kv_type)
            if made.encoder:
                raise ModelError(f"{made.opened.source.name}: it makes vectors, and has nothing to decode")
            self._runtimes[kv_type] = made
            self._opening = time.perf_counter() - begun
        return self._runtimes[kv_type]

    def session(self, work: Work) -> PunaSession:
        """A runner whose sequences hold what the work begins with."""
        runtime = self.runtime(work.kv_type)
        begun = time.perf_counter()
        runner = runtime.observer(sizes(work), lambda output: [output])
        runner.step([Part([0], 0, [0])], [0])  # weights may be packed until then
        self.load_seconds = self.load_seconds or self._opening + time.perf_counter() - begun
        return PunaSession(runner, work, runtime.vocab_size)


def sizes(work: Work) -> Limits:
    """A program that is large enough."""
    table = -(-work.positions // BLOCK)
    tokens = min(CHUNK, max(work.tokens, work.sequences))
    return Limits(
        slots=table * BLOCK * work.sequences,
        states=work.sequences,
        tokens=tokens,
        outputs=work.sequences,
        sequences=work.sequences,
        table=table,
    )


class PunaSession:
    """A runner with a block table for each sequence."""

    setting = ""

    def __init__(self, runner: Runner, work: Work, vocabulary: int) -> None:
        self.runner, self.work = runner, work
        self._prompt = prompt(max(work.tokens, work.steps), vocabulary)
        self._blocks = [[s + work.sequences * i for i in range(runner.limits.table)] for s in range(work.sequences)]
        if work.start:
            write_states(runner.program)

    def run(self) -> float:
        """Prefill from the beginning, or decode from `start`."""
        return timed(self._decode if self.work.decodes else self._prefill)

    def _prefill(self) -> None:
        for _ in self._chunks():
            pass

    def _chunks(self) -> Iterator[None]:
        for start in range(0, self.work.tokens, CHUNK):
            chunk = self._prompt[start : min(start + CHUNK, self.work.tokens)]
            last = start + CHUNK >= self.work.tokens
            self.runner.step([Part(chunk, start, self._blocks[0])], [len(chunk) - 1] if last else [])
            yield

    def steps(self) -> Iterator[tuple[float, float]]:
        """Do the work a step at a time: seconds of each, and those of them within the program, on the cpu backend."""
        for i in range(self.work.steps):
            inside = 0.0
            begun = time.perf_counter()
            for _ in self._only(i) if self.work.decodes else self._chunks():
                inside += self.runner.program.seconds  # type: ignore[attr-defined]  # which that backend has
            yield time.perf_counter() - begun, inside

    def _decode(self) -> None:
        for i in range(self.work.steps):
            self.step(i)

    def _only(self, i: int) -> Iterator[None]:
        self.step(i)
        yield

    def step(self, i: int) -> None:
        """One token more in each sequence, the i-th behind `start`."""
        parts = [Part([self._prompt[i]], self.work.start + i, blocks, s) for s, blocks in enumerate(self._blocks)]
        self.runner.step(parts, list(range(len(parts))))


def write_states(program: Program) -> None:
    """Fill the states with bytes that are small numbers in any type, so that memory of its own is read."""
    some = np.random.default_rng(2).integers(0x20, 0x3C, 1 << 20, np.uint8)
    for state in program.states:
        flat = state.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, some.size):
            part = flat[start : start + some.size]
            part[:] = some[: part.size]
