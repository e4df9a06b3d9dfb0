"""The MLX backend: a graph's nodes as MLX functions, on Apple's GPUs or on any processor that MLX is built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mlx.core as mx

from puna.backends import definition
from puna.backends.base import Bounds, Progress
from puna.backends.mlx.hardware import devices, open_device
from puna.backends.mlx.ops import FUNCTIONS
from puna.backends.mlx.program import WHOLE, Program
from puna.backends.mlx.values import KEPT
from puna.backends.mlx.weights import Weights
from puna.backends.selection import best
from puna.dtypes import Stored
from puna.graph.lower import lower
from puna.graph.tensor import Tensor

__all__ = ["MlxBackend", "devices", "open_backend"]


class MlxBackend:
    """One device. Matrices that MLX cannot multiply by as they are stored become float16 on a GPU, else float32."""

    best = staticmethod(best)

    def __init__(self, device: mx.Device) -> None:
        self.device = device
        self.name = f"mlx:{'gpu' if device.type == mx.gpu else 'cpu'}"
        self._wide = mx.float16 if device.type == mx.gpu else mx.float32

    def supports(self, node: Tensor) -> bool:
        """Whether there is a function for its op, and its state is kept in a type that there is."""
        kept = all(s.dtype.name in KEPT for s in node.sources if s.op in ("state", "write"))
        if node.op == "all_reduce":
            return bool(node.attrs["count"] == 1)
        return kept and (node.op in FUNCTIONS or node.op in WHOLE or node.op == "iota")

    def load(
        self, weights: Mapping[str, Stored], progress: Progress | None = None, *, beside: Weights | None = None
    ) -> Weights:
        """Keeps the handles; bytes are read when a graph that reads them is compiled."""
        return Weights(weights, self.device, self._wide, progress, beside)

    def compile(
        self,
        outputs: Sequence[Tensor],
        weights: Weights,
        bounds: Bounds,
        *,
        writes: Sequence[Tensor] = (),
        beside: Program | None = None,
    ) -> Program:
        """Lowers the graph, and brings what it reads into memory."""
        lowered = lower([*outputs, *writes], self.supports, self.name, definition.evaluate)
        count, kept = len(outputs), beside.kept if beside else {}
        return Program(lowered[:count], lowered[count:], weights, bounds, self.device, kept)


def open_backend(threads: int | None = None, device: str = "") -> MlxBackend:
    """The backend on a device ("gpu", "cpu"; "": the best there is); MLX chooses its threads itself."""
    return MlxBackend(open_device(device))
