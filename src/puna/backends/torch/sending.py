"""Graphs and parts of weights in a form that goes to another process. It knows nothing of how they get there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import quants
from puna.dtypes import DTYPES, DType, Stored
from puna.graph.shard import Part
from puna.graph.tensor import Tensor, topological

Flat = tuple[list[tuple[Any, ...]], list[int]]
"""Nodes, each after its inputs, which are numbers of others; and the numbers of the outputs."""


@dataclass(slots=True)
class Piece:
    """A part of a stored tensor, in memory: a `Stored`."""

    shape: tuple[int, ...]
    kind: str
    raw: NDArray[np.uint8]

    @property
    def dtype(self) -> DType:
        """The stored type."""
        return DTYPES[self.kind]

    def numpy(self) -> NDArray[Any]:
        """The values."""
        if self.kind in quants.CODECS:
            return quants.dequantize(self.raw, self.kind, self.shape)
        return self.raw.view(self.dtype.numpy).reshape(self.shape)


def piece_of(stored: Mapping[str, Stored], parts: Mapping[str, Part], name: str) -> Stored:
    """A weight, or the part of one that `name` stands for."""
    if name not in parts:
        return stored[name]
    _, axis, start, stop = part = parts[name]
    whole = piece_of(stored, parts, part.name)
    shape, size = (*whole.shape[:axis], stop - start, *whole.shape[axis + 1 :]), whole.dtype.block_size
    rows = np.ascontiguousarray(whole.raw).view(np.uint8).reshape(*whole.shape[:-1], -1)
    if axis == len(shape) - 1:
        each = whole.dtype.block_bytes
        cut = rows[..., start // size * each : stop // size * each]
    else:
        cut = rows[(slice(None),) * axis + (slice(start, stop),)]
    return Piece(shape, whole.dtype.name, np.ascontiguousarray(cut).reshape(-1))


def flat(outputs: Sequence[Tensor]) -> Flat:
    """A graph without references: types by their names."""
    order = topological(outputs)
    number: dict[Tensor | None, int] = {node: i for i, node in enumerate(order)} | {None: -1}
    nodes = [
        (n.op, [number[i] for i in n.inputs], {k: _plain(v) for k, v in n.attrs.items()}, n.shape, n.dtype.name)
        for n in order
    ]
    return nodes, [number[o] for o in outputs]


def built(graph: Flat) -> list[Tensor]:
    """The outputs of a graph again."""
    nodes, outputs = graph
    made: list[Tensor] = []
    for op, inputs, attrs, shape, kind in nodes:
        given = {k: DTYPES[v] if k == "dtype" else v for k, v in attrs.items()}
        made.append(Tensor(op, tuple(None if i < 0 else made[i] for i in inputs), given, shape, DTYPES[kind]))
    return [made[o] for o in outputs]


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, DType) else value
