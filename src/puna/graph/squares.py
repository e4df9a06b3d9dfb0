"""A graph pass: the sums of squares of what goes into weights, over the rows of a step. It knows no use for them.

Weights that read the same value share one sum. An expert's are over the rows that were sent to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from puna.graph.ops import apply
from puna.graph.tensor import Tensor, constant, topological


@dataclass(frozen=True, slots=True)
class Squares:
    """Of `weights`, by name: `sums` (1 or experts, columns), and how many rows each is over: `counts` (1, experts).

    Without `counts` it is every row.
    """

    weights: tuple[str, ...]
    sums: Tensor
    counts: Tensor | None = None


def input_squares(outputs: Sequence[Tensor], wanted: Callable[[str], bool]) -> list[Squares]:
    """What goes into the weights with a `wanted` name, in the order of the graph."""
    readers: dict[tuple[Tensor, Tensor | None, int], list[str]] = {}
    for node in topological(outputs):
        if node.op in ("linear", "experts") and node.inputs[1].op == "weight" and wanted(node.inputs[1].name):
            x, w = node.inputs[:2]
            ids, count = (node.inputs[2], w.shape[0]) if node.op == "experts" else (None, 1)
            readers.setdefault((x, ids, count), []).append(w.name)
    return [_squares(tuple(dict.fromkeys(names)), *key) for key, names in readers.items()]


def _squares(names: tuple[str, ...], x: Tensor, ids: Tensor | None, experts: int) -> Squares:
    if ids is None:
        return Squares(names, (x * x).sum(0))
    rows, slots = ids.shape
    identity = constant(np.eye(experts, dtype=np.float32))
    sums, sent = None, None
    for j in range(int(slots)):  # type: ignore[arg-type]  # only the rows are symbolic
        chosen = apply("take", identity, ids.slice(1, j, j + 1).reshape(rows))  # (rows, experts): one is 1
        own = x if len(x.shape) == 2 else x.slice(1, j, j + 1).reshape(rows, x.shape[2])
        part = apply("matmul", chosen.permute(1, 0), own * own)
        sums, sent = (part, chosen) if sums is None or sent is None else (sums + part, sent + chosen)
    if sums is None or sent is None:
        raise ValueError(f"{names[0]}: no expert is chosen")
    return Squares(names, sums, sent.sum(0))
