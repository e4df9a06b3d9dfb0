"""One model measured: from its name to the comparison, with memory taken before a peer takes its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from puna.bench import compare
from puna.bench.compare import Comparison, Possible
from puna.bench.contender import Puna, PunaSession, Session
from puna.bench.limits import Limits, measure
from puna.bench.profile import Profile, points, profiled, python_share
from puna.bench.roofline import svg
from puna.bench.work import Cost, Work, cost
from puna.engine.limits import limits
from puna.errors import ModelError
from puna.opened import open_model
from puna.runtime import Runtime


def compared(
    ref: str | PathLike[str],
    works: Sequence[Work],
    *,
    rounds: int = 5,
    backend: str = "auto",
    threads: int | None = None,
    peer: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> Comparison:
    """Measure `works` on a model, beside llama.cpp where `peer` says so.

    PunaError where the model cannot be opened or decoded, or the peer is not installed. `tick` is called after each
    piece of work of each round.
    """
    if peer:
        from puna.bench import peer as other

        other.open_library()
    room = max(work.positions for work in works)
    puna = Puna(lambda kv: Runtime(open_model(ref), backend=backend, context_length=None, kv_type=kv, threads=threads))
    runtime = puna.runtime(works[0].kv_type)
    if room > runtime.hparams.context_length:
        most = runtime.hparams.context_length
        raise ModelError(
            f"measuring {runtime.opened.source.name}: {room} positions; this model was made for 1 to {most}"
        )
    ours = compare.sessions(puna, works)
    memory = _memory(runtime, [s for s in ours if isinstance(s, PunaSession)])
    count = getattr(runtime.backend, "threads", 1)
    sessions: dict[str, Sequence[Session]] = {puna.name: ours}
    loaded, builds = {puna.name: puna.load_seconds}, {}
    if peer:
        rival = other.LlamaCpp(str(runtime.opened.source), count)
        sessions[rival.name] = compare.sessions(rival, works)
        loaded[rival.name], builds[rival.name] = rival.load_seconds, rival.build
    possible = Possible(cost_of(runtime), measure(count)) if runtime.backend.name == "cpu" else None
    lines = compare.make_lines(works, sessions)
    compare.rounds(lines, sessions, rounds, possible or (lambda work: None), tick)
    bandwidth = possible.bandwidth if possible else []
    return Comparison(Path(ref).name, count, lines, loaded, memory, bandwidth, builds)


@dataclass(frozen=True, slots=True)
class Profiles:
    """A model's profiles, Python's seconds outside and inside the program, and the limits to hold them against."""

    model: str
    found: list[Profile]
    engine: tuple[float, float]
    limits: Limits

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        engine = {"outside": self.engine[0], "inside": self.engine[1]}
        found = [profile.to_dict() for profile in self.found]
        return {"model": self.model, "profiles": found, "engine_seconds": engine, "limits": self.limits.to_dict()}

    def plot(self) -> str:
        """All kinds of steps under the machine's roofs, as SVG."""
        threads, groups = self.limits.threads, {p.work.name: points(p) for p in self.found}
        peaks = {kind: rates[threads] for kind, rates in self.limits.peaks[self.limits.isa].items()}
        title = f"{self.model}, {threads} thread{'s' if threads > 1 else ''}, {self.limits.isa}"
        reads = {place: self.limits.read[place][threads] for place in ("memory", "L3") if place in self.limits.read}
        return svg(title, reads, peaks, groups)


def profiles(
    ref: str | PathLike[str], works: Sequence[Work], *, rounds: int = 5, threads: int | None = None
) -> Profiles:
    """Where the time of `works` goes, on the cpu backend."""
    puna = Puna(lambda kv: Runtime(open_model(ref), backend="cpu", context_length=None, kv_type=kv, threads=threads))
    runtime = puna.runtime(works[0].kv_type)
    found = [profiled(puna.session(work), cost_of(runtime), rounds) for work in works]
    context = min(64, runtime.hparams.context_length)
    each = sum(spec.sequence_bytes for spec in runtime.arch.caches(runtime.hparams))
    runner = runtime.observer(limits(context, 1, sequence_bytes=each), lambda output: [output])
    return Profiles(Path(ref).name, found, python_share(runner, context), measure(runtime.backend.threads))  # type: ignore[attr-defined]


def cost_of(runtime: Runtime) -> Cost:
    """What a model's tensors and caches cost."""
    hp = runtime.hparams
    used, stacked = getattr(hp, "n_experts_used", None), getattr(hp, "n_experts", None)
    experts = used / stacked if used and stacked else 1
    return cost(runtime.opened.tensors, list(runtime.arch.caches(hp)), hp.n_heads, experts)


def _memory(runtime: Runtime, sessions: Sequence[PunaSession]) -> dict[str, int]:
    """Bytes resident at most so far, and what they are: stored weights, K/V that was written, the rest."""
    try:
        import resource
    except ImportError:  # not on this system
        return {}
    used = sum(s.runner.memory.states for s in sessions)
    weights = sum(t.dtype.nbytes(tuple(t.shape)) for t in runtime.opened.tensors.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"peak": peak, "weights": weights, "kv": used, "rest": peak - weights - used}
