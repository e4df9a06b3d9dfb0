"""Adapters on their way into a graph: their matrices as weights beside the base's, and where they are added.

It knows no files and no backends; `puna.graph.adapt` changes the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import F32, Stored
from puna.errors import ModelError
from puna.formats.lora import Adapter, place_of
from puna.graph import weight
from puna.graph.adapt import LowRank, Place


@dataclass(frozen=True)
class Scaled:
    """A matrix times a number, so that no step of the program multiplies by it (a `puna.dtypes.Stored`)."""

    source: Stored
    factor: float
    dtype = F32

    @property
    def shape(self) -> tuple[int, ...]:
        """The matrix's."""
        return self.source.shape

    def numpy(self) -> NDArray[np.float32]:
        """float32."""
        return np.asarray(self.source.numpy() * np.float32(self.factor), np.float32)

    @property
    def raw(self) -> NDArray[np.uint8]:
        """Little-endian float32."""
        return np.ascontiguousarray(self.numpy(), "<f4").reshape(-1).view(np.uint8)


@dataclass(frozen=True)
class Grafted:
    """A base with adapters: its own `tensors` (some replaced), all `weights` a graph reads, and what is added where."""

    tensors: Mapping[str, Stored]
    weights: Mapping[str, Stored]
    changes: Mapping[Place, list[LowRank]]


def graft(tensors: Mapping[str, Stored], adapters: Iterable[tuple[Adapter, float]]) -> Grafted:
    """A base's tensors with `adapters`, each with a factor for its change.

    The adapters have to fit the base. ModelError for DoRA, which is no sum.
    """
    base, weights = dict(tensors), dict[str, Stored]()
    changes: dict[Place, list[LowRank]] = {}
    for number, (adapter, factor) in enumerate(adapters):
        base |= adapter.whole
        for name, pair in adapter.pairs.items():
            if pair.magnitude is not None:
                raise ModelError(f"adapter {adapter.source.name}: it is a DoRA, which is no sum; merging works")
            matrices = (("a", pair.a), ("b", Scaled(pair.b, pair.scale * factor)))
            leaves = {f"adapter.{number}.{name}.lora_{part}": matrix for part, matrix in matrices}
            weights |= leaves
            a, b = (weight(n, m.shape, m.dtype) for n, m in leaves.items())
            changes.setdefault((pair.op, place_of(name, tensors)), []).append(LowRank(a, b))
    return Grafted(base, base | weights, changes)
