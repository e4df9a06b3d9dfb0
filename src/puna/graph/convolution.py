"""The convolution over a sequence's latest rows, which are kept in slots as keys and values are."""

from __future__ import annotations

import numpy as np

from puna import dtypes
from puna.dtypes import DType
from puna.graph.ops import F32_NMSE, Attrs, Inputs, Op, apply, define, require
from puna.graph.tensor import Shape, Tensor, constant


def _causal_conv1d(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    kept, w, positions, sequence, table = inputs
    plain = kept.dtype is dtypes.F32 and w.dtype is dtypes.F32
    fits = len(kept.shape) == len(w.shape) == len(table.shape) == 2 and kept.shape[1] == w.shape[0]
    require("causal_conv1d", plain and fits, "needs F32 (C, D) and (D, L), and a table", inputs)
    require("causal_conv1d", positions.shape == sequence.shape, "one position and sequence a row", inputs)
    return (*positions.shape, kept.shape[1]), dtypes.F32


def _slot(place: Tensor, sequence: Tensor, table: Tensor, size: int) -> Tensor:
    """Where places of sequences are kept: table[sequence, place // size] * size + place % size. (T,)"""
    (rows,), (_, width) = place.shape, table.shape
    block = (place.cast(dtypes.F32) / float(size)).cast(dtypes.I32)
    chosen = apply("equal", block.reshape(rows, 1), apply("iota", size=width).reshape(1, width))
    blocks = apply("take", table.cast(dtypes.F32), sequence)
    found = apply("where", chosen, blocks, constant(np.float32(0))).sum(1).reshape(rows).cast(dtypes.I32)
    return (found - block) * size + place


def _causal_conv1d_meaning(node: Tensor) -> Tensor:
    kept, w, positions, sequence, table = node.sources
    (rows,), (width, length) = positions.shape, w.shape
    terms = []
    for j in range(int(length)):  # type: ignore[arg-type]  # a weight's shape has no symbols
        place = positions - (int(length) - 1 - j)  # type: ignore[arg-type]
        outside = apply("less", place, constant(np.int32(0)))
        place = apply("where", outside, constant(np.int32(0)), place)
        row = apply("take", kept, _slot(place, sequence, table, node.attrs["block_size"]))
        row = apply("where", outside.reshape(rows, 1), constant(np.float32(0)), row)
        terms.append(row * w.slice(1, j, j + 1).reshape(1, width))
    y = terms[0]
    for term in terms[1:]:
        y = y + term
    return y


define(
    Op(
        "causal_conv1d",
        "Each column's own convolution over the rows of its sequence: w[:, L - 1] times the row at the token's "
        "position, w[:, L - 2] the one before ...; none before the first. Position p of sequence s is in slot "
        "table[s, p // block_size] * block_size + p % block_size of a state of F32 rows.",
        _causal_conv1d,
        F32_NMSE,
        _causal_conv1d_meaning,
    )
)
