"""A graph pass that adds low-rank changes (LoRA) to products and lookups, so that the weights stay as they are stored.

    x @ W.T  becomes  x @ W.T + (x @ A.T * scale) @ B.T          linear: A (rank, columns), B (rows, rank)
                                                                 experts: the same, a matrix for each expert
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
"""An op, one of `OPS`, and the name of the weight that it reads."""

OPS = ("linear", "experts", "embedding")
"""What reads weights that can be changed; the weight is the second input."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """One change: two weight leaves and what their product is multiplied by."""

    a: Tensor
    b: Tensor
    scale: float = 1.0


def adapt(
    outputs: Sequence[Tensor], changes: Mapping[Place, Sequence[LowRank]], *, partly: bool = False
) -> list[Tensor]:
    """The graph with every change made, or `partly` those of what it reads.

    GraphError names a weight that is changed but that no such op reads.
    """
    made: set[Place] = set()

    def change(node: Tensor) -> Tensor:
        place = place_of(node)
        if place is None or place not in changes:
            return node
        made.add(place)
        changed = node
        for low in changes[place]:
            changed = changed + _product(node, low)
        return changed

    adapted = rewrite(outputs, change)
    if not partly and (missed := sorted(changes.keys() - made)):
        op, name = missed[0]
        raise GraphError(f"adapting: no {op} reads '{name}', so it cannot be changed while running; merging works")
    return adapted


def place_of(node: Tensor) -> Place | None:
    """Where a change would go; None for a node that takes none."""
    return (node.op, node.inputs[1].name) if node.op in OPS and node.inputs[1].op == "weight" else None


def _product(node: Tensor, low: LowRank) -> Tensor:
    x, _, *others = node.inputs
    if node.op == "embedding":
        return apply("linear", _scaled(apply("embedding", x, low.a), low), low.b, None)
    others[-1] = None  # the bias
    return apply(node.op, _scaled(apply(node.op, x, low.a, *others), low), low.b, *others)


def _scaled(inner: Tensor, low: LowRank) -> Tensor:
    return inner if low.scale == 1.0 else inner * low.scale
