"""A graph pass that adds low-rank changes (LoRA), each token's own: those that its sequence chose of several.

    x @ W.T  becomes  x @ W.T + (x @ A[c].T) @ B[c].T * scale        c, scale: the token's choice and its factor

A and B of all adapters are stacked, and a product with the chosen ones is one of experts, so that a row costs what its
own adapter costs, and nothing where it has none. It knows nodes and names of leaves, as `puna.graph.adapt`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from puna import dtypes
from puna.errors import GraphError
from puna.graph.adapt import Place, place_of
from puna.graph.lower import rewrite
from puna.graph.ops import apply
from puna.graph.tensor import T, Tensor, constant, input_


@dataclass(frozen=True, slots=True)
class Stack:
    """What adapters change at one place: weight leaves, and `rows`, by an adapter's number, where it lies; -1: nowhere.

    `b` is (E, n, rank). `a` is (E, rank, k); of an embedding (E * ids, rank). At a place with experts E is so many for
    each adapter. Number 0 is no adapter.
    """

    a: Tensor
    b: Tensor
    rows: tuple[int, ...]


def choice_names(index: int) -> tuple[str, str]:
    """What the inputs are called that say which adapter each token has, and how much of it."""
    return f"adapter.{index}", f"adapter.{index}.scale"


def adapt_each(outputs: Sequence[Tensor], stacks: Mapping[Place, Stack], count: int, wanted: Tensor) -> list[Tensor]:
    """The graph with every change made for tokens that have up to `count` adapters each.

    `wanted`: the input with the rows whose outputs are wanted. GraphError names a place that is not there, or whose
    rows are not the batch's.
    """
    choices = [_Choice(*choice_names(index), wanted) for index in range(count)]
    made: set[Place] = set()

    def change(node: Tensor) -> Tensor:
        place = place_of(node)
        if place is None or place not in stacks:
            return node
        made.add(place)
        changed = node
        for choice in choices:
            changed = changed + _product(node, stacks[place], choice)
        return changed

    adapted = rewrite(outputs, change)
    if missed := sorted(stacks.keys() - made):
        op, name = missed[0]
        raise GraphError(f"adapting: no {op} reads '{name}', so it cannot be changed while running; merging works")
    return adapted


class _Choice:
    """One adapter of each token."""

    def __init__(self, name: str, scale: str, wanted: Tensor) -> None:
        self._number = input_(name, (T,), dtypes.I32)
        self._scale = input_(scale, (T,), dtypes.F32)
        self._wanted = wanted

    def at(self, node: Tensor, stack: Stack) -> tuple[Tensor, Tensor]:
        """Of each row of a node: where its adapter lies in a stack (rows, 1), and its factor (rows, 1, 1)."""
        rows = node.shape[0]
        if rows not in (T, *self._wanted.shape):
            name = node.inputs[1].name
            raise GraphError(f"adapting: rows of '{name}' are no tokens, so each cannot have its own; merging works")
        number, scale = self._number, self._scale
        if rows is not T:
            number, scale = (apply("take", each, self._wanted) for each in (number, scale))
        place: Tensor = apply("take", constant(np.array(stack.rows, np.int32)), number)
        return place.reshape(rows, 1), scale.reshape(rows, 1, 1)


def _product(node: Tensor, stack: Stack, choice: _Choice) -> Tensor:
    place, scale = choice.at(node, stack)
    x, w, *_ = node.inputs
    if node.op == "experts":
        ids, each = node.inputs[2], w.shape[0]
        place = apply("where", apply("less", place, constant(0)), constant(-1), place * each + ids)
    if node.op == "embedding":
        start = apply("maximum", place, constant(0)).reshape(place.shape[0]) * w.shape[0]
        inner = apply("embedding", start + x, stack.a)
    else:
        inner = apply("experts", x, stack.a, place, None)
    y = apply("experts", inner, stack.b, place, None) * scale
    return y if node.op == "experts" else y.sum(1).reshape(*node.shape)
