"""Graph passes: from what an architecture says to what one backend can run. Each is small and rewrites bottom-up.

No pass computes anything; constants are folded by an evaluator that the caller hands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.errors import BackendError
from puna.graph.ops import OPS
from puna.graph.tensor import Tensor, constant, topological

Evaluate = Callable[[Tensor, Sequence[NDArray[Any]]], NDArray[Any]]
FOLD_LIMIT = 1 << 16
"""Elements; a larger constant is computed when the program runs."""


def rewrite(outputs: Sequence[Tensor], change: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The graph with every node replaced by `change(node)`, its inputs being replaced already."""
    new: dict[Tensor, Tensor] = {}
    for node in topological(outputs):
        inputs = tuple(i if i is None else new[i] for i in node.inputs)
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
        new[node] = change(node if same else Tensor(node.op, inputs, node.attrs, node.shape, node.dtype))
    return [new[o] for o in outputs]


def decompose(outputs: Sequence[Tensor], supports: Callable[[Tensor], bool], backend: str) -> list[Tensor]:
    """Replace each unsupported fused op by its meaning, until only supported ops remain.

    BackendError names an unsupported core op and the backend.
    """

    def change(node: Tensor) -> Tensor:
        op = OPS[node.op]
        if op.leaf or supports(node):
            return node
        if op.decompose is None:
            raise BackendError(f"backend '{backend}' cannot run op '{node.op}' {node!r} of {list(node.sources)!r}")
        (meaning,) = decompose([op.decompose(node)], supports, backend)
        return meaning

    return rewrite(outputs, change)


def share(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Common subexpressions become one node. What changes states stays apart."""
    seen: dict[object, Tensor] = {}

    def change(node: Tensor) -> Tensor:
        return node if OPS[node.op].changes else seen.setdefault(_key(node), node)

    return rewrite(outputs, change)


def _key(node: Tensor) -> object:
    attrs = tuple((k, _hashable(v)) for k, v in sorted(node.attrs.items()))
    return node.op, tuple(map(id, node.inputs)), attrs, node.shape, node.dtype


def _hashable(value: Any) -> object:
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def fold(outputs: Sequence[Tensor], evaluate: Evaluate) -> list[Tensor]:
    """Nodes whose inputs are all constants become constants, if they are small."""

    def change(node: Tensor) -> Tensor:
        sources = node.sources
        known = sources and all(s.op == "constant" for s in sources) and None not in node.inputs
        sizes = [d for d in node.shape if isinstance(d, int)]
        if not known or len(sizes) < len(node.shape) or np.prod(sizes, dtype=np.int64) > FOLD_LIMIT:
            return node
        return constant(evaluate(node, [s.attrs["value"] for s in sources]))

    return rewrite(outputs, change)


def lower(
    outputs: Sequence[Tensor], supports: Callable[[Tensor], bool], backend: str, evaluate: Evaluate | None = None
) -> list[Tensor]:
    """All passes in order: decompose, fold (given an evaluator), share. Dead nodes are never visited."""
    outputs = decompose(outputs, supports, backend)
    if evaluate is not None:
        outputs = fold(outputs, evaluate)
    return share(outputs)
