"""The native CPU backend: lowers a graph to a flat program, and runs it in C++ with one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import puna.backends.cpu._native as native  # in this form an absent module is named by the error
from puna.backends import definition
from puna.backends.base import Bounds, Device, Progress
from puna.backends.cpu import emit_core, emit_experts, emit_fused  # noqa: F401 - the emit files fill the table
from puna.backends.cpu.program import Program
from puna.backends.cpu.supports import supports
from puna.backends.cpu.weights import Weights
from puna.dtypes import Stored
from puna.errors import BackendError
from puna.graph.lower import lower
from puna.graph.tensor import Tensor
from puna.machine.memory import UNKNOWN, free_memory, machine_memory
from puna.machine.threads import default_threads

MOST_THREADS = 512
"""More would only wait for each other."""


class CpuBackend:
    """Threads, and the instruction set that kernels use."""

    name = "cpu"

    def __init__(self, threads: int | None, isa: str) -> None:
        if isa not in ("auto", *native.isas()):
            raise BackendError(f"backend 'cpu': this machine does not run '{isa}'; it runs {', '.join(native.isas())}")
        self.threads = default_threads() if threads is None else threads
        if not 0 < self.threads <= MOST_THREADS:
            raise BackendError(f"backend 'cpu': {self.threads} threads; 1 to {MOST_THREADS} work")
        self.isa = isa
        try:
            self._pool = native.Pool(self.threads)
        except RuntimeError as error:
            raise BackendError(f"backend 'cpu': starting {self.threads} threads: {error}; fewer may work") from error
        self.best = native.best

    def supports(self, node: Tensor) -> bool:
        """Whether there is a kernel for this node."""
        return supports(node)

    def load(
        self, weights: Mapping[str, Stored], progress: Progress | None = None, *, beside: Weights | None = None
    ) -> Weights:
        """Keeps the handles; a weight is packed when a graph that reads it is compiled, in the background.

        `progress` is called by who waits for it: the first run, or `finish`.
        """
        return Weights(weights, self._pool, progress, beside)

    def compile(
        self,
        outputs: Sequence[Tensor],
        weights: Weights,
        bounds: Bounds,
        *,
        writes: Sequence[Tensor] = (),
        beside: Program | None = None,
    ) -> Program:
        """Lower, begin to pack what the graph reads, plan, allocate."""
        lowered = lower([*outputs, *writes], supports, self.name, definition.evaluate)
        count, kept = len(outputs), beside.kept if beside else {}
        return Program(lowered[:count], weights, bounds, self._pool, self.isa, lowered[count:], kept)


def open_backend(threads: int | None = None, isa: str = "") -> CpuBackend:
    """The backend; `isa` is one of `_native.isas()`, or nothing: the best that this machine runs."""
    return CpuBackend(threads, isa or "auto")


def devices() -> list[Device]:
    """The instruction sets that this machine runs, by which the processor may be asked for: the best first."""
    total, free = machine_memory(), free_memory()
    known = 0 if free == UNKNOWN else free
    return [Device(isa, f"this processor's {isa}", total, known) for isa in reversed(native.isas())]
