"""Contenders taking turns: every round does each piece of work with each of them, and reads memory beside it.

What a line says is the median of the rounds, with the least and the most; a share or a ratio is the median of the
rounds' own, for the machine may change from round to round.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from puna.bench import table
from puna.bench.contender import Contender, Session
from puna.bench.limits import Limits, Reading
from puna.bench.table import number, percent, spread
from puna.bench.work import KV_BYTES, Cost, Work

SCHEMA = 1
"""Of the JSON; one more when a name changes its meaning."""


@dataclass(slots=True)
class Line:
    """One piece of work: tokens a second of each contender, and the most that is possible, by round."""

    work: Work
    rates: dict[str, list[float]]
    limit: list[float] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def share(self, name: str) -> float | None:
        """The part of what is possible that a contender reaches."""
        return _median_ratio(self.rates[name], self.limit)

    def ratio(self) -> float | None:
        """How much faster the first contender is than the second."""
        first, *others = self.rates.values()
        return _median_ratio(first, others[0]) if others else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        figures = {
            name: {
                "tokens_per_second": median(values),
                "least": min(values),
                "most": max(values),
                "samples": values,
                "share_of_limit": self.share(name),
                "setting": self.settings.get(name, ""),
            }
            for name, values in self.rates.items()
        }
        limit = median(self.limit) if self.limit else None
        return {**asdict(self.work), "limit_tokens_per_second": limit, "contenders": figures, "ratio": self.ratio()}


def _median_ratio(values: Sequence[float], of: Sequence[float]) -> float | None:
    return median(a / b for a, b in zip(values, of, strict=True)) if of else None


@dataclass(slots=True)
class Comparison:
    """All lines, and what stands beside them."""

    model: str
    threads: int
    lines: list[Line]
    load_seconds: dict[str, float]
    memory: dict[str, int]
    bandwidth: list[float]
    peers: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "threads": self.threads,
            "machine": {"system": platform.platform(), "processor": processor()},
            "read_bytes_per_second": self.bandwidth,
            "load_seconds": self.load_seconds,
            "memory_bytes": self.memory,
            "peers": self.peers,
            "work": [line.to_dict() for line in self.lines],
        }


def rounds(
    lines: Sequence[Line],
    sessions: Mapping[str, Sequence[Session]],
    count: int,
    limit: Callable[[Work], float | None],
    tick: Callable[[], object] = lambda: None,
) -> None:
    """Fill `lines` with `count` rounds; `sessions` of each contender are in the order of the lines.

    Who begins changes with every round. `limit` gives the tokens a second that are possible now.
    """
    for turn in range(count):
        for i, line in enumerate(lines):
            names = list(sessions) if turn % 2 == 0 else list(reversed(list(sessions)))
            before = limit(line.work)
            for name in names:
                line.rates[name].append(line.work.counted / sessions[name][i].run())
            if before is not None:
                line.limit.append(max(before, limit(line.work) or 0))
            tick()


class Possible:
    """Tokens a second that a model's cost and the machine's limits allow; reading is measured anew each time."""

    def __init__(self, cost: Cost, limits: Limits) -> None:
        self._cost, self._limits = cost, limits
        self._readings: dict[int, Reading] = {}
        self.bandwidth: list[float] = []

    def __call__(self, work: Work) -> float:
        """The most for one piece of work, now."""
        if not work.decodes:
            return self._limits.peak(self._cost.kind) / (self._cost.operations(work) / work.tokens)
        nbytes = int(self._cost.read(work, KV_BYTES[work.kv_type]))
        if nbytes not in self._readings:
            self._readings[nbytes] = Reading(min(nbytes, MOST_READ), self._limits.threads)
        self.bandwidth.append(self._readings[nbytes].rate())
        return work.sequences * self.bandwidth[-1] / nbytes


MOST_READ = 1 << 29
"""Bytes read to know the bandwidth: as many as a step reads, up to this many, so that caches help both alike."""


def lines(found: Comparison) -> Iterator[str]:
    """The comparison as text."""
    names = list(found.lines[0].rates)
    head = [
        "work",
        *(cell for name in names for cell in (f"{name} tok/s", "", "of limit")),
        *(["ratio"] if len(names) > 1 else []),
    ]
    yield from table.lines(head, [_row(line, names) for line in found.lines])
    for line in found.lines:
        yield from (f"{line.work.name}: {name} with {how}" for name, how in line.settings.items() if how)
    if found.bandwidth:
        rates = [value / 1e9 for value in found.bandwidth]
        yield f"read {number(median(rates))} GB/s {spread(rates)} on {found.threads} thread(s), beside each round"
    done = ["loaded", "opened (weights come with the first tokens)"]  # a peer's opening alone is measured
    times = zip(found.load_seconds.items(), done, strict=False)
    yield ", ".join(f"{name} {how} in {seconds:.2f} s" for (name, seconds), how in times)
    if found.memory:
        millions = {name: f"{value / 1e6:.0f}" for name, value in found.memory.items()}
        yield "memory: {peak} MB at most = weights {weights} + K/V {kv} + {rest} MB".format(**millions)
    yield from (f"{name}: {build}" for name, build in found.peers.items())


def _row(line: Line, names: Sequence[str]) -> list[str]:
    kv = "" if line.work.kv_type == "f16" else f", {line.work.kv_type}"
    cells = [line.work.name + kv]
    for name in names:
        values = line.rates[name]
        cells += [number(median(values)), spread(values), percent(line.share(name))]
    ratio = line.ratio()
    return cells + ([f"{ratio:.2f}x"] if ratio is not None else [])


def make_lines(works: Sequence[Work], contenders: Mapping[str, Sequence[Session]]) -> list[Line]:
    """Empty lines for all contenders."""
    return [
        Line(work, {name: [] for name in contenders}, settings={n: s[i].setting for n, s in contenders.items()})
        for i, work in enumerate(works)
    ]


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself."""
    try:
        named = (
            line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line.startswith("model name")
        )
        return next(named, "") or platform.processor()
    except OSError:
        return platform.processor()


def sessions(contender: Contender, works: Sequence[Work]) -> list[Session]:
    """A session for each piece of work, each done once to warm up."""
    made = [contender.session(work) for work in works]
    for session in made:
        session.run()
    return made
