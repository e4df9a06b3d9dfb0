"""Nodes between those that look at a whole run, as one compiled function of MLX's: decode steps, whose sizes recur."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from puna.backends.walk import Step
from puna.graph.tensor import Tensor as Node

Function = Callable[..., Any]


class Segment:
    """Nodes with their functions, in order; `fixed` are values that never change, `wanted` nodes that others read.

    MLX traces it once for each set of its inputs' shapes, from which the sizes of symbols follow.
    """

    def __init__(
        self, steps: Sequence[tuple[Node, Function]], fixed: Mapping[Node, Any], wanted: Callable[[Node], bool]
    ) -> None:
        self.nodes = [node for node, _ in steps]
        self._steps, self._fixed = steps, fixed
        own = set(self.nodes)
        read = dict.fromkeys(i for node in self.nodes for i in node.sources if i not in own and i not in fixed)
        self._inputs = list(read)
        self._outputs = [node for node in self.nodes if wanted(node)]
        self._step: Step | None = None
        self._compiled = mx.compile(self._traced)

    def _traced(self, *given: Any) -> list[Any]:
        values = dict(zip(self._inputs, given, strict=True))
        for node, function in self._steps:
            sources = [None if i is None else values[i] if i in values else self._fixed[i] for i in node.inputs]
            values[node] = function(self._step, *sources)
        return [values[node] for node in self._outputs]

    def run(self, step: Step, values: dict[Node, Any]) -> None:
        """Adds what others read to `values`."""
        self._step = step
        found = self._compiled(*(values[node] for node in self._inputs))
        values |= zip(self._outputs, found, strict=True)


def segmented(
    steps: Sequence[tuple[Node, Function]],
    alone: Callable[[Node], bool],
    fixed: Mapping[Node, Any],
    outputs: Sequence[Node],
) -> list[tuple[Node, Function] | Segment]:
    """Steps in the same order, those between nodes that stand alone in segments."""
    readers: dict[Node, list[Node]] = {}
    for node, _ in steps:
        for source in node.sources:
            readers.setdefault(source, []).append(node)
    out: list[tuple[Node, Function] | Segment] = []
    some: list[tuple[Node, Function]] = []

    def end() -> None:
        if some:
            inside = {node for node, _ in some}
            out.append(
                Segment(
                    list(some),
                    fixed,
                    lambda node: node in outputs or any(reader not in inside for reader in readers.get(node, ())),
                )
            )
            some.clear()

    for node, function in steps:
        if alone(node):
            end()
            out.append((node, function))
        else:
            some.append((node, function))
    end()
    return out
