"""One device: a graph's nodes as torch functions on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from puna.backends import definition
from puna.backends.base import Bounds, Progress
from puna.backends.selection import best
from puna.backends.torch.compiling import wanted
from puna.backends.torch.experts import experts
from puna.backends.torch.ops import FUNCTIONS
from puna.backends.torch.program import WHOLE, Program
from puna.backends.torch.values import KEPT
from puna.backends.torch.weights import Weights
from puna.dtypes import Stored
from puna.graph.lower import lower
from puna.graph.tensor import Tensor

FUNCTIONS["experts"] = experts


class TorchBackend:
    """One device. `expand` says whether matrices are expanded to floats when they are loaded; None: if they fit.

    `compiles` says whether torch.compile makes fewer kernels; None: $PUNA_TORCH_COMPILE does.
    """

    best = staticmethod(best)

    def __init__(self, device: torch.device, expand: bool | None = None, compiles: bool | None = None) -> None:
        self.device = device
        self._compiles = wanted(device) if compiles is None else compiles
        self.name = f"torch:{device}"
        self._expand = expand
        self._wide = torch.bfloat16 if device.type in ("cuda", "xpu") else torch.float32

    def supports(self, node: Tensor) -> bool:
        """Whether there is a function for its op, and its state is kept in a type that there is."""
        kept = all(s.dtype.name in KEPT for s in node.sources if s.op in ("state", "write"))
        return kept and (node.op in FUNCTIONS or node.op in WHOLE or node.op == "iota")

    def load(
        self, weights: Mapping[str, Stored], progress: Progress | None = None, *, beside: Weights | None = None
    ) -> Weights:
        """Keeps the handles; bytes are read when a graph that reads them is compiled."""
        return Weights(weights, self.device, self._wide, self._expand, progress, beside)

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
        return Program(lowered[:count], lowered[count:], weights, bounds, self.device, kept, self._compiles)
