"""The lazy tensor: a node with an op, inputs, attributes, a shape and a dtype. It computes nothing.

Shapes are row-major; a dimension is a number or a symbol (`T` tokens in the batch, `O` rows whose logits are wanted,
`S` sequences in the batch) whose bound is stated when a program is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from puna import dtypes
from puna.dtypes import DType
from puna.errors import GraphError


@dataclass(frozen=True, slots=True)
class Dim:
    """A symbolic dimension, known when a program runs."""

    name: str

    def __repr__(self) -> str:
        return self.name


T = Dim("T")
O = Dim("O")  # noqa: E741 - the symbol of the design: rows whose outputs are wanted
S = Dim("S")

Shape = tuple[int | Dim, ...]

_NUMPY_TO_DTYPE = {np.dtype("f4"): dtypes.F32, np.dtype("i4"): dtypes.I32, np.dtype("?"): dtypes.BOOL}


class Tensor:
    """One node of the graph. Compared and hashed by identity; made by `ops.apply` or the leaf functions below."""

    __slots__ = ("attrs", "dtype", "inputs", "op", "shape")

    def __init__(self, op: str, inputs: tuple[Any, ...], attrs: Mapping[str, Any], shape: Shape, dtype: DType) -> None:
        self.op = op
        self.inputs = inputs  # Tensors; None where an optional input is absent
        self.attrs = attrs
        self.shape = shape
        self.dtype = dtype

    @property
    def name(self) -> str:
        """The name of a leaf; of any other node, its op."""
        return str(self.attrs.get("name", self.op))

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The inputs that are there (optional ones may be None)."""
        return self.inputs if None not in self.inputs else tuple(i for i in self.inputs if i is not None)

    def __repr__(self) -> str:
        return f"{self.name}{list(self.shape)}:{self.dtype}"

    def __add__(self, other: Tensor | float) -> Tensor:
        return _binary("add", self, other)

    def __radd__(self, other: float) -> Tensor:
        return _binary("add", other, self)

    def __sub__(self, other: Tensor | float) -> Tensor:
        return _binary("sub", self, other)

    def __rsub__(self, other: float) -> Tensor:
        return _binary("sub", other, self)

    def __mul__(self, other: Tensor | float) -> Tensor:
        return _binary("mul", self, other)

    def __rmul__(self, other: float) -> Tensor:
        return _binary("mul", other, self)

    def __truediv__(self, other: Tensor | float) -> Tensor:
        return _binary("div", self, other)

    def __rtruediv__(self, other: float) -> Tensor:
        return _binary("div", other, self)

    def __neg__(self) -> Tensor:
        return _apply("neg", self)

    def reshape(self, *shape: int | Dim) -> Tensor:
        """The same elements in row-major order under another shape."""
        return _apply("reshape", self, shape=shape)

    def permute(self, *axes: int) -> Tensor:
        """Axes reordered, as numpy's transpose."""
        return _apply("permute", self, axes=axes)

    def slice(self, axis: int, start: int, stop: int) -> Tensor:
        """Elements `start` up to `stop` of a numbered axis."""
        return _apply("slice", self, axis=axis % len(self.shape), start=start, stop=stop)

    def cast(self, dtype: DType) -> Tensor:
        """The values in another plain dtype."""
        return self if dtype is self.dtype else _apply("cast", self, dtype=dtype)

    def sum(self, axis: int) -> Tensor:
        """Sum over one axis, which stays with length 1."""
        return _apply("sum", self, axis=axis % len(self.shape))

    def max(self, axis: int) -> Tensor:
        """Maximum over one axis, which stays with length 1."""
        return _apply("max", self, axis=axis % len(self.shape))


def _apply(op: str, *inputs: Tensor | None, **attrs: Any) -> Tensor:
    from puna.graph import ops  # the op table builds Tensors: the one cycle between these two files

    return ops.apply(op, *inputs, **attrs)


def _binary(op: str, a: Tensor | float, b: Tensor | float) -> Tensor:
    like = a if isinstance(a, Tensor) else b
    if not isinstance(like, Tensor):
        raise GraphError(f"{op}: neither side is a Tensor; at least one must be")
    sides = (x if isinstance(x, Tensor) else constant(np.asarray(x, like.dtype.numpy)) for x in (a, b))
    return _apply(op, *sides)


def input_(name: str, shape: Shape, dtype: DType) -> Tensor:
    """An array handed to each run of the program."""
    return Tensor("input", (), {"name": name}, shape, dtype)


def weight(name: str, shape: Sequence[int], dtype: DType) -> Tensor:
    """A stored parameter, found by name among the loaded weights."""
    return Tensor("weight", (), {"name": name}, tuple(shape), dtype)


def state(name: str, shape: Sequence[int], dtype: DType) -> Tensor:
    """Memory that the program keeps from run to run; zero at first."""
    return Tensor("state", (), {"name": name}, tuple(shape), dtype)


def constant(value: ArrayLike) -> Tensor:
    """A small array that is part of the graph: float32, int32 or bool."""
    array: NDArray[Any] = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu":
        array = array.astype(np.int32)
    array.setflags(write=False)
    return Tensor("constant", (), {"value": array}, array.shape, _NUMPY_TO_DTYPE[array.dtype])


def concrete(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A shape with its symbols replaced by `sizes`."""
    return tuple(sizes[d.name] if isinstance(d, Dim) else d for d in shape)


def topological(outputs: Iterable[Tensor]) -> list[Tensor]:
    """Every node that `outputs` need, each after its inputs; order is deterministic. Dead nodes do not appear."""
    order: list[Tensor] = []
    seen: set[Tensor] = set()
    stack: list[Tensor | None] = list(reversed(list(outputs)))  # None before a node whose inputs are done
    while stack:
        node = stack.pop()
        if node is None:
            order.append(stack.pop())  # type: ignore[arg-type]  # what follows a None is a node
        elif node not in seen:
            seen.add(node)
            stack += (node, None)
            stack += [i for i in reversed(node.inputs) if i is not None and i not in seen]
    return order
