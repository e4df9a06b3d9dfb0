"""What this machine can do at most: bytes read and operations a second, and the time of a barrier.

It needs the native module, and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from puna.backends.cpu import _native as native
from puna.bench.table import giga, lines, number
from puna.machine.threads import default_threads

MEMORY = 256 << 20
"""Bytes read for the bandwidth of memory: several times any cache that one thread gets."""
FORMS = ((1, 0), (1, 2048), (2, 0), (2, 2048), (4, 0), (8, 0))
"""Ways to read, of which the best counts: streams side by side, and bytes that are asked for ahead."""
ROUNDS = 3
PEAK_ROUNDS = 60
CACHES = {"L2": (2, 512 << 10), "L3": (3, 8 << 20)}
"""Level of each cache, and how many bytes are taken to fit where the system does not say."""
ENOUGH = 20e6
"""Bytes that a thread reads from a cache in one round."""
SAFE_PEAK = {"bf16": "int16", "int16": "int8", "int8": "f32"}
"""Where an instruction set does not have a peak, the one that its kernels take instead."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Figures with all `threads` and with one.

    `read`: bytes a second by place (memory, L3, L2), then by number of threads. `peaks`: operations a second by
    instruction set, kind (int8, int16, bf16, f32; a multiplication and an addition are two), then by number of threads.
    `barrier`: seconds that all threads take to wait for each other once.
    """

    threads: int
    isa: str
    read: Mapping[str, Mapping[int, float]]
    peaks: Mapping[str, Mapping[str, Mapping[int, float]]]
    barrier: float

    def peak(self, kind: str, isa: str = "auto", threads: int | None = None) -> float:
        """Operations a second at most with numbers of a `kind`, or of the kind that takes its place."""
        peaks = self.peaks[self.isa if isa == "auto" else isa]
        while kind not in peaks:
            kind = SAFE_PEAK[kind]
        return peaks[kind][self.threads if threads is None else threads]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Reading:
    """So many bytes of memory, to be read whenever the bandwidth of this minute is wanted."""

    def __init__(self, nbytes: int, threads: int, isa: str = "auto") -> None:
        self._pool, self._isa = native.Pool(threads), isa
        self._nbytes = max(nbytes, threads << 20)

    @cached_property
    def _memory(self) -> Any:
        return native.allocate(self._nbytes, True)

    @cached_property
    def _form(self) -> tuple[int, int]:
        return max(FORMS, key=lambda form: self._rate(form, ROUNDS))

    def _rate(self, form: tuple[int, int], rounds: int) -> float:
        return self._nbytes / min(native.time_reading(self._pool, self._isa, self._memory, 1, *form, rounds))

    def rate(self, rounds: int = ROUNDS) -> float:
        """Bytes a second now: the best round of the form that was best when first asked."""
        return self._rate(self._form, rounds)


def measure(threads: int | None = None) -> Limits:
    """Measure everything: about two seconds."""
    threads = threads or default_threads()
    isas = native.isas()
    counts = sorted({1, threads})
    pools = {count: native.Pool(count) for count in counts}
    peaks = {
        isa: {
            kind: {n: native.time_peak(pools[n], isa, kind, PEAK_ROUNDS) for n in counts}
            for kind in native.peak_names(isa)
        }
        for isa in isas
    }
    read = {name: {n: _cached(pools[n], *CACHES[name]) for n in counts} for name in CACHES}
    read["memory"] = {n: Reading(MEMORY, n).rate() for n in counts}
    return Limits(threads, isas[-1], read, peaks, native.time_barrier(threads))


def _cached(pool: native.Pool, level: int, fitting: int) -> float:
    """Bytes a second of a cache, a quarter or half of which is in use."""
    nbytes = min(fitting, (cache_size(level) or fitting) // 2)
    if level == 2:
        nbytes *= pool.size  # each core has its own
    memory = native.allocate(nbytes, True)
    times = max(2, int(ENOUGH * pool.size / nbytes))
    best = min(min(native.time_reading(pool, "auto", memory, times, *form, ROUNDS)) for form in FORMS)
    return nbytes * times / best


def table(limits: Limits) -> Iterator[str]:
    """The figures as text."""
    counts = sorted(limits.read["memory"])
    head = ["limit", *(f"{n} thread{'s' if n > 1 else ''}" for n in counts), ""]
    rows = [[f"read {place}", *(giga(values[n]) for n in counts), "GB/s"] for place, values in limits.read.items()]
    for isa, kinds in limits.peaks.items():
        rows += [[f"{isa} {kind}", *(giga(values[n]) for n in counts), "GOP/s"] for kind, values in kinds.items()]
    rows.append(["barrier", *[""] * (len(counts) - 1), number(1e6 * limits.barrier), "us"])
    yield from lines(head, rows)


def cache_size(level: int, root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int | None:
    """Bytes of the first core's cache for data of this level; None where the system does not say."""
    for folder in sorted(root.glob("index*")):
        try:
            found = {name: (folder / name).read_text().strip() for name in ("level", "type", "size")}
        except OSError:
            continue
        if found["level"] == str(level) and found["type"] != "Instruction":
            return int(found["size"].removesuffix("K")) << 10
    return None
