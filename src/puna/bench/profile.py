"""Where the time of a step goes: kernels by kind, waiting at barriers, and Python around the program.

It reads what the native executor collects, and knows steps by their kernels and labels only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from puna.backends.cpu.program import Program
from puna.backends.cpu.steps import Step
from puna.bench import table
from puna.bench.contender import PunaSession
from puna.bench.table import number, percent
from puna.bench.work import KV_BYTES, Cost, Work
from puna.dtypes import DTYPES
from puna.engine.engine import Engine
from puna.engine.runner import Runner
from puna.engine.sampler import Sampling

TYPES = {dtype.ggml_id: name for name, dtype in DTYPES.items()}
STEPS = 32
"""Steps of the engine by which Python's share is measured."""


@dataclass(slots=True)
class Part:
    """One kind of step in one run: thread-seconds (of all threads together), units, and what it computes and reads."""

    kind: str
    seconds: float = 0.0
    units: int = 0
    operations: float = 0.0
    nbytes: float = 0.0


@dataclass(slots=True)
class Profile:
    """One piece of work, per run: `wall` seconds, of which `native` in the program; `waiting` in thread-seconds."""

    work: Work
    threads: int
    wall: float
    native: float
    waiting: float
    parts: list[Part] = field(default_factory=list)

    @property
    def python(self) -> float:
        """Seconds of a run outside the program."""
        return max(0.0, self.wall - self.native)

    @property
    def other(self) -> float:
        """Thread-seconds of the program that are neither a step's nor a barrier's."""
        return max(0.0, self.native * self.threads - self.waiting - sum(part.seconds for part in self.parts))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "python": self.python, "other": self.other}


def profiled(session: PunaSession, cost: Cost, rounds: int) -> Profile:
    """The mean of `rounds` runs of a session on the cpu backend."""
    program, work = session.runner.program, session.work
    assert isinstance(program, Program)
    session.run()
    program.profile(True)
    wall = native = 0.0
    for _ in range(rounds):
        for seconds, inside in session.steps():
            wall, native = wall + seconds, native + inside
    found = program.profiles()
    program.profile(False)
    runs = rounds * work.steps
    tokens = work.counted // work.steps
    parts: dict[str, Part] = {}
    for index, step in enumerate(program.steps):
        part = parts.setdefault(kind_of(step), Part(kind_of(step)))
        part.seconds += sum(p.seconds[index] for p in found) / runs
        part.units += sum(p.units[index] for p in found) // runs
        operations, nbytes = product_cost(step, tokens, work.sequences)
        part.operations, part.nbytes = part.operations + operations, part.nbytes + nbytes
    if "attention" in parts:
        parts["attention"].operations, parts["attention"].nbytes = cost.attention(work, KV_BYTES[work.kv_type])
    waiting = sum(sum(map(sum, p.waits)) for p in found) / runs
    ordered = sorted((p for p in parts.values() if p.units), key=lambda part: -part.seconds)
    return Profile(work, len(found), wall / runs, native / runs, waiting, ordered)


def kind_of(step: Step) -> str:
    """What a step is called: products by the type of their weight, row kernels by their op, others by their kernel."""
    if step.kernel == "linear":
        return f"linear {TYPES.get(step.ints[0], '?')}"
    return step.label if step.kernel == "row" and step.label else step.kernel


def product_cost(step: Step, tokens: int, outputs: int) -> tuple[float, float]:
    """Operations and bytes of one product; none for other steps. It has a row for each token, or for each output."""
    if step.kernel != "linear":
        return 0.0, 0.0
    _, n, k, _, nbytes = step.ints
    result = step.operands[0]
    assert result is not None
    rows = outputs if result.shape[0][2] else tokens
    return 2.0 * rows * n * k, float(nbytes + 4 * rows * (n + k))


def python_share(runner: Runner, context: int, token: int = 1) -> tuple[float, float]:
    """Median seconds outside and inside the program, of a step of the engine: one sequence at temperature 0."""
    program = runner.program
    assert isinstance(program, Program)
    engine = Engine(runner, context)
    engine.submit([token] * 8, Sampling(temperature=0))
    outside, inside = [], []
    for i in range(min(STEPS, context - 9)):
        begun = time.perf_counter()
        engine.step()
        if i:  # the first is the prompt
            inside.append(program.seconds)
            outside.append(time.perf_counter() - begun - inside[-1])
    return median(outside), median(inside)


def lines(profiles: Sequence[Profile], engine: tuple[float, float] | None) -> Iterator[str]:
    """The profiles as text."""
    for found in profiles:
        every = found.native * found.threads
        rows = [_row(part, every) for part in found.parts]
        rows.append(["waiting at barriers", *_time(found.waiting, every), "", "", ""])
        rows.append(["other", *_time(found.other, every), "", "", ""])
        wall, inside = number(1e3 * found.wall), number(1e3 * found.native)
        yield f"{found.work.name}: {wall} ms a step, {inside} in the program, {number(1e6 * found.python)} us outside"
        yield from table.lines(["kind", "thread ms", "share", "units", "GOP/s", "GB/s"], rows)
        yield ""
    if engine:
        share = percent(engine[0] / sum(engine))
        yield f"python: {number(1e6 * engine[0])} us of a step of the engine, {share} (one sequence, sampling too)"


def _time(seconds: float, every: float) -> list[str]:
    return [number(1e3 * seconds), percent(seconds / every if every else None)]


def _row(part: Part, every: float) -> list[str]:
    rates = [
        table.giga(value / part.seconds) if value and part.seconds else "" for value in (part.operations, part.nbytes)
    ]
    return [part.kind, *_time(part.seconds, every), str(part.units), *rates]


def points(found: Profile) -> Mapping[str, tuple[float, float]]:
    """For a roofline: kind to operations a byte, and operations a second of all threads."""
    return {
        part.kind: (part.operations / part.nbytes, part.operations / part.seconds * found.threads)
        for part in found.parts
        if part.operations and part.nbytes and part.seconds
    }
