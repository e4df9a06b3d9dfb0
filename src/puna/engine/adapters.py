"""Adapters on their way into a graph: their matrices as weights beside the base's, and where they are added.

It knows no files and no backends; `puna.graph.adapt` changes the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from puna.dtypes import Stored
from puna.errors import ModelError
from puna.formats.lora import Adapter, place_of
from puna.graph import weight
from puna.graph.adapt import LowRank, Place


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
            leaves = {f"{name}.lora_{part}.{number}": matrix for part, matrix in (("a", pair.a), ("b", pair.b))}
            weights |= leaves
            a, b = (weight(n, m.shape, m.dtype) for n, m in leaves.items())
            place = (pair.op, place_of(name, tensors))
            changes.setdefault(place, []).append(LowRank(a, b, pair.scale * factor))
    return Grafted(base, base | weights, changes)
