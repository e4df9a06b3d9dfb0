"""The ggml backend: a graph's nodes as graphs of ggml's, on any device that a libggml has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from puna.backends import definition
from puna.backends import numpy as host
from puna.backends.base import Bounds, Progress
from puna.backends.ggml.hardware import Hardware, devices, open_devices
from puna.backends.ggml.ops import EMITS
from puna.backends.ggml.program import Program
from puna.backends.ggml.weights import Weights
from puna.backends.selection import best
from puna.dtypes import Stored
from puna.graph.lower import lower
from puna.graph.tensor import Tensor

__all__ = ["GgmlBackend", "devices", "open_backend"]


class GgmlBackend:
    """Devices, the first of which has all that there is room for; what ggml has no function for the host computes."""

    best = staticmethod(best)

    def __init__(self, name: str, devices: Sequence[Hardware]) -> None:
        self._devices = devices
        self.name = f"ggml:{name or devices[0].name}"

    def supports(self, node: Tensor) -> bool:
        """All ops, of one process."""
        return host.supports(node)

    def on_host(self, op: str) -> bool:
        """Whether an op is computed by numpy, for want of a function of ggml's."""
        return op not in EMITS

    def load(
        self, weights: Mapping[str, Stored], progress: Progress | None = None, *, beside: Weights | None = None
    ) -> Weights:
        """Keeps the handles; bytes are read when a graph that reads them is compiled."""
        return Weights(weights, progress, beside)

    def compile(
        self,
        outputs: Sequence[Tensor],
        weights: Weights,
        bounds: Bounds,
        *,
        writes: Sequence[Tensor] = (),
        beside: Program | None = None,
    ) -> Program:
        """Lowers the graph, and brings what it reads to the device."""
        lowered = lower([*outputs, *writes], self.supports, self.name, definition.evaluate)
        count, kept = len(outputs), beside.kept if beside else {}
        return Program(lowered[:count], lowered[count:], weights, bounds, self._devices, kept)


def open_backend(threads: int | None = None, device: str = "") -> GgmlBackend:
    """The backend on a device ("cpu", "cuda0" ...; "": the best there is), or on several ("cuda0,cuda1,cpu")."""
    return GgmlBackend(device, open_devices(device, threads))
