"""The ONNX backend: a graph becomes one model, which onnxruntime runs on its execution providers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from puna.backends import definition
from puna.backends.base import Bounds, Progress
from puna.backends.onnx.hardware import devices, open_device
from puna.backends.onnx.model import WRITERS
from puna.backends.onnx.program import Program
from puna.backends.onnx.values import BYTES, FLOATS, KEPT
from puna.backends.onnx.weights import Weights
from puna.backends.selection import best
from puna.dtypes import Stored
from puna.graph.lower import lower
from puna.graph.tensor import Tensor

__all__ = ["OnnxBackend", "devices", "open_backend", "supports"]


class OnnxBackend:
    """One device of onnxruntime. `taking`: what products of codes take activations as."""

    best = staticmethod(best)

    def __init__(self, device: str, threads: int | None = None, taking: int = BYTES) -> None:
        self.device = device
        self.name = f"onnx:{device}"
        self._threads, self._taking = threads, taking

    def supports(self, node: Tensor) -> bool:
        """Whether something writes its op, and its state is kept in a type that there is."""
        return supports(node)

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
        """Lowers the graph, writes it as a model, and opens a session of it."""
        lowered = lower([*outputs, *writes], self.supports, self.name, definition.evaluate)
        whole = lowered[: len(outputs)], lowered[len(outputs) :]
        kept = beside.kept if beside else {}
        return Program(*whole, weights, bounds, self.device, self._threads, self._taking, kept)


def supports(node: Tensor) -> bool:
    """Whether something writes its op, and its state is kept in a type that there is."""
    kept = all(s.dtype.name in KEPT for s in node.sources if s.op in ("state", "write"))
    if node.op == "all_reduce":
        return bool(node.attrs["count"] == 1)
    return kept and node.op in WRITERS


def open_backend(threads: int | None = None, device: str = "") -> OnnxBackend:
    """The backend on a device ("cpu", "cuda" ...; "": the best there is).

    $PUNA_ONNX_FLOATS=1: products with codes take activations as they are, which is slower on a processor.
    """
    return OnnxBackend(open_device(device), threads, FLOATS if os.environ.get("PUNA_ONNX_FLOATS") == "1" else BYTES)
