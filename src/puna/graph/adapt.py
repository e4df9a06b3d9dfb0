"""A graph pass that adds low-rank changes (LoRA) to products and lookups, so that the weights stay as they are stored.

    x @ W.T  becomes  x @ W.T + (x @ A.T * scale) @ B.T          linear: A (rank, columns), B (rows, rank)
    W[ids]   becomes  W[ids] + (A[ids] * scale) @ B.T            embedding: A (rows, rank), B (columns, rank)

It knows nodes and names of leaves; where A and B come from is not its matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from puna.errors import GraphError
from puna.graph.lower import rewrite
from puna.graph.ops import apply
from puna.graph.tensor import Tensor

Place = tuple[str, str]
"""An op, linear or embedding, and the name of the weight that it reads."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """One change: two weight leaves and what their product is multiplied by."""

    a: Tensor
    b: Tensor
    scale: float


def adapt(outputs: Sequence[Tensor], changes: Mapping[Place, Sequence[LowRank]]) -> list[Tensor]:
    """The graph with every change made; GraphError names a weight that is changed but that no such op reads."""
    made: set[Place] = set()

    def change(node: Tensor) -> Tensor:
        place = (node.op, node.inputs[1].name) if node.op in ("linear", "embedding") else None
        if place is None or place not in changes:
            return node
        made.add(place)
        x, changed = node.inputs[0], node
        for low in changes[place]:
            inner = apply("linear", x, low.a, None) if node.op == "linear" else apply("embedding", x, low.a)
            changed = changed + apply("linear", inner * low.scale, low.b, None)
        return changed

    adapted = rewrite(outputs, change)
    if missed := sorted(changes.keys() - made):
        op, name = missed[0]
        raise GraphError(f"adapting: no {op} reads '{name}', so it cannot be changed while running; merging works")
    return adapted
