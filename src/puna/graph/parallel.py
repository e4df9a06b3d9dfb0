"""The op that joins what several processes computed of one graph, each with its part of the weights; see shard.py."""

from __future__ import annotations

from puna import dtypes
from puna.dtypes import DType
from puna.errors import GraphError
from puna.graph.ops import F32_NMSE, Attrs, Inputs, Op, define, require
from puna.graph.tensor import Shape, Tensor


def _all_reduce(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    (x,) = inputs
    require("all_reduce", x.dtype is dtypes.F32 and attrs["count"] > 0, "needs F32 and a process", inputs)
    return x.shape, x.dtype


def _meaning(node: Tensor) -> Tensor:
    if node.attrs["count"] > 1:
        raise GraphError(f"all_reduce: {node.attrs['count']} processes, and a backend that speaks to none of them")
    return node.sources[0]


define(
    Op(
        "all_reduce",
        "The sum of x over `count` processes that run the same graph at the same time; x itself where there is one.",
        _all_reduce,
        F32_NMSE,
        _meaning,
    )
)
