"""What cases are made of: graphs that end in a node, their inputs, and a maker that remembers values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import dtypes
from puna.dtypes import DType
from puna.graph.ops import apply
from puna.graph.tensor import Dim, T, Tensor, input_, weight

Array = NDArray[Any]
BY_NUMPY = {"f": dtypes.F32, "i": dtypes.I32, "b": dtypes.BOOL}
LINEAR_TYPES = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"),
    *("MXFP4", "NVFP4", "TQ1_0", "TQ2_0", "Q1_0"),
)
STATE_TYPES = ("F32", "F16", "Q8_0")
ODD = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 88.0, -88.0, 1e30, -1e30, 1e-30, 3.0, -3.0, 0.1], np.float32
)
"""Values at which functions differ."""


@dataclass(slots=True)
class Case:
    """A graph that ends in `node`, what to run it with, and what is special about it."""

    what: str
    node: Tensor
    inputs: dict[str, Array] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)

    @property
    def op(self) -> str:
        """The op it is a case of."""
        return self.node.op

    def __str__(self) -> str:
        return f"{self.op}: {self.what}"


class Maker:
    """Makes leaves and remembers their values."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.inputs: dict[str, Array] = {}
        self.weights: dict[str, Array] = {}

    def floats(self, *shape: int) -> Array:
        """Normal values."""
        return self.rng.standard_normal(shape).astype(np.float32)

    def input(self, values: Array, symbol: Dim | None = None) -> Tensor:
        """An input; its first axis is `symbol` if that is given."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = values
        shape = values.shape if symbol is None else (symbol, *values.shape[1:])
        return input_(name, shape, BY_NUMPY[values.dtype.kind])

    def weight(self, values: Array, dtype: DType = dtypes.F32) -> Tensor:
        """A weight stored in `dtype`."""
        name = f"w{len(self.weights)}"
        self.weights[name] = values
        return weight(name, values.shape, dtype)

    def case(self, what: str, node: Tensor) -> Case:
        """The case that ends in `node`."""
        return Case(what, node, self.inputs, self.weights)


def symbolic(what: str, op: str, *arrays: Array, **attrs: Any) -> Case:
    """A node on inputs whose first axis is T."""
    make = Maker()
    return make.case(what, apply(op, *(make.input(a, T) for a in arrays), **attrs))


def fixed(what: str, op: str, *arrays: Array, **attrs: Any) -> Case:
    """A node on inputs without symbols."""
    make = Maker()
    return make.case(what, apply(op, *(make.input(a) for a in arrays), **attrs))
