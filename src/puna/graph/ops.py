"""The op table: for every op its name, its meaning, its shape rule and its tolerance.

The table is the contract between architectures and backends. Core ops run on every backend; a fused op has a
decomposition, its meaning in other ops, used where a backend does not support it. How ops are computed is not known
here; `puna.backends.definition` is the definition of their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from puna import dtypes
from puna.dtypes import DType
from puna.errors import GraphError
from puna.graph.tensor import Dim, Shape, Tensor

Inputs = tuple[Any, ...]  # Tensors; None where an optional input is absent
Attrs = Mapping[str, Any]
Infer = Callable[[Inputs, Attrs], tuple[Shape, DType]]


@dataclass(frozen=True, slots=True)
class Op:
    """One entry of the table.

    `infer` maps inputs and attributes to shape and dtype, raising GraphError where they do not fit. `decompose` is
    None for a core op. `nmse` bounds the mean squared error of a backend's result relative to the mean square of the
    definition's; 0 demands equal bits. `changes` says that its first input is a state, which it leaves changed.
    """

    name: str
    meaning: str
    infer: Infer
    nmse: float = 0.0
    decompose: Callable[[Tensor], Tensor] | None = None
    leaf: bool = False
    changes: bool = False

    @property
    def fused(self) -> bool:
        """Whether the op has a meaning in terms of others."""
        return self.decompose is not None


OPS: dict[str, Op] = {}
"""Every op by name."""

F32_NMSE = 1e-11
"""For float32 arithmetic in another order, or with another library's exp and sin."""


def define(op: Op) -> None:
    """Add an entry to the table; a second one of the same name is an error."""
    if op.name in OPS:
        raise GraphError(f"op '{op.name}' is defined twice")
    OPS[op.name] = op


def apply(op: str, *inputs: Tensor | None, **attrs: Any) -> Tensor:
    """A node of `op`, its shape and dtype by the op's rule; GraphError where the inputs do not fit."""
    if op not in OPS:
        raise GraphError(f"op '{op}' is unknown; 'docs/ops.md' lists all")
    shape, dtype = OPS[op].infer(inputs, attrs)
    return Tensor(op, inputs, attrs, shape, dtype)


def fail(op: str, why: str, inputs: Iterable[Tensor | None]) -> GraphError:
    """The error of a shape rule: names the op, what is wrong, and the inputs."""
    return GraphError(f"{op}: {why}; inputs: {', '.join(map(_described, inputs))}")


def _described(node: Tensor | None) -> str:
    """The node, and the weights that it was just computed with."""
    weights = [] if node is None else [each.name for each in node.sources if each.op == "weight"]
    return f"{node!r} of {', '.join(weights)}" if weights else repr(node)


def broadcast(op: str, inputs: Inputs) -> Shape:
    """The common shape by numpy's rule; symbolic dimensions match only themselves and 1."""
    rank = max(len(t.shape) for t in inputs)
    out: list[int | Dim] = []
    for dims in zip(*((1,) * (rank - len(t.shape)) + t.shape for t in inputs), strict=True):
        distinct = {d for d in dims if d != 1}
        if len(distinct) > 1:
            raise fail(op, "shapes do not broadcast", inputs)
        out.append(distinct.pop() if distinct else 1)
    return tuple(out)


def require(op: str, condition: bool, why: str, inputs: Inputs) -> None:
    """Raise the op's GraphError unless `condition` holds."""
    if not condition:
        raise fail(op, why, inputs)


# ---- shape rules of core ops ----------------------------------------------------------------------------------------


def _same(op: str, *kinds: str) -> Infer:
    """Elementwise over broadcast inputs of one dtype, which the result keeps. `kinds`: numpy kinds allowed."""

    def infer(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
        first = inputs[0]
        require(op, all(t.dtype is first.dtype for t in inputs), "dtypes differ", inputs)
        require(op, not first.dtype.quantized and first.dtype.numpy.kind in kinds, "dtype is not allowed", inputs)
        return broadcast(op, inputs), first.dtype

    return infer


def _compare(op: str) -> Infer:
    same = _same(op, "f", "i")
    return lambda inputs, attrs: (same(inputs, attrs)[0], dtypes.BOOL)


def _where(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    condition, a, b = inputs
    require("where", condition.dtype is dtypes.BOOL and a.dtype is b.dtype, "needs bool and two of one dtype", inputs)
    return broadcast("where", inputs), a.dtype


def _cast(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    require("cast", not inputs[0].dtype.quantized and not attrs["dtype"].quantized, "both dtypes must be plain", inputs)
    return inputs[0].shape, attrs["dtype"]


def _reshape(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    (x,), shape = inputs, attrs["shape"]

    def split(dims: Shape) -> tuple[int, list[str]]:
        return prod(d for d in dims if isinstance(d, int)), sorted(d.name for d in dims if isinstance(d, Dim))

    require("reshape", split(x.shape) == split(shape), f"does not fit {shape}", inputs)
    return shape, x.dtype


def _permute(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    (x,), axes = inputs, attrs["axes"]
    require("permute", sorted(axes) == list(range(len(x.shape))), f"axes {axes} are not its axes", inputs)
    return tuple(x.shape[a] for a in axes), x.dtype


def _slice(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    (x,), axis, start, stop = inputs, attrs["axis"], attrs["start"], attrs["stop"]
    size = x.shape[axis]
    require("slice", isinstance(size, int), "the axis is symbolic", inputs)
    require("slice", 0 <= start < stop <= size, f"{start}:{stop} is outside the axis", inputs)
    return (*x.shape[:axis], stop - start, *x.shape[axis + 1 :]), x.dtype


def _concat(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    first, axis = inputs[0], attrs["axis"]
    others = {(t.dtype, t.shape[:axis], t.shape[axis + 1 :]) for t in inputs}
    require("concat", len(others) == 1, "other axes or dtypes differ", inputs)
    require("concat", all(isinstance(t.shape[axis], int) for t in inputs), "the axis is symbolic", inputs)
    return (*first.shape[:axis], sum(t.shape[axis] for t in inputs), *first.shape[axis + 1 :]), first.dtype


def _expand(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    (x,), shape = inputs, attrs["shape"]
    fits = len(x.shape) == len(shape) and all(a in (1, b) for a, b in zip(x.shape, shape, strict=False))
    require("expand", fits, f"does not expand to {shape}", inputs)
    return shape, x.dtype


def _take(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    x, index = inputs
    require("take", index.dtype is dtypes.I32 and not x.dtype.quantized, "index must be I32, rows plain", inputs)
    return (*index.shape, *x.shape[1:]), x.dtype


def _iota(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    return (attrs["size"],), dtypes.I32


def _reduce(op: str) -> Infer:
    def infer(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
        (x,), axis = inputs, attrs["axis"]
        require(op, x.dtype is dtypes.F32 and 0 <= axis < len(x.shape), "needs F32 and an axis it has", inputs)
        return (*x.shape[:axis], 1, *x.shape[axis + 1 :]), x.dtype

    return infer


def _matmul(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    a, b = inputs
    require("matmul", a.dtype is b.dtype is dtypes.F32, "needs F32", inputs)
    require("matmul", len(a.shape) == len(b.shape) >= 2 and a.shape[-1] == b.shape[-2], "inner sizes differ", inputs)
    require("matmul", a.shape[:-2] == b.shape[:-2], "batch sizes differ", inputs)
    return (*a.shape[:-1], b.shape[-1]), a.dtype


def _dequantize(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    require("dequantize", inputs[0].op in ("weight", "write", "state"), "needs a weight or a state", inputs)
    return inputs[0].shape, dtypes.F32


def _write(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    target, slots, values = inputs
    require("write", target.op in ("state", "write"), "needs a state", inputs)
    require("write", slots.dtype is dtypes.I32 and values.shape == (*slots.shape, *target.shape[1:]), "shapes", inputs)
    return target.shape, target.dtype


def _leaf(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    raise GraphError("a leaf is made by input_, weight, state or constant")


FLOAT = ("f",)
NUMBER = ("f", "i")

for _op in (
    Op("input", "An array handed to each run.", _leaf, leaf=True),
    Op("weight", "A stored parameter of any dtype, found by name.", _leaf, leaf=True),
    Op("state", "Memory kept from run to run, zero at first.", _leaf, leaf=True),
    Op("constant", "A small array that is part of the graph.", _leaf, leaf=True),
    Op("add", "a + b.", _same("add", *NUMBER), F32_NMSE),
    Op("sub", "a - b.", _same("sub", *NUMBER), F32_NMSE),
    Op("mul", "a * b.", _same("mul", *NUMBER), F32_NMSE),
    Op("div", "a / b.", _same("div", *FLOAT), F32_NMSE),
    Op("maximum", "The larger of a and b; NaN where either is.", _same("maximum", *NUMBER)),
    Op("minimum", "The smaller of a and b; NaN where either is.", _same("minimum", *NUMBER)),
    Op("neg", "-x.", _same("neg", *NUMBER)),
    Op("abs", "|x|.", _same("abs", *NUMBER)),
    Op("exp", "e to the x.", _same("exp", *FLOAT), F32_NMSE),
    Op("log", "Natural logarithm.", _same("log", *FLOAT), F32_NMSE),
    Op("sqrt", "Square root.", _same("sqrt", *FLOAT), F32_NMSE),
    Op("sin", "Sine of x in radians.", _same("sin", *FLOAT), F32_NMSE),
    Op("cos", "Cosine of x in radians.", _same("cos", *FLOAT), F32_NMSE),
    Op("tanh", "Hyperbolic tangent.", _same("tanh", *FLOAT), F32_NMSE),
    Op("erf", "The error function.", _same("erf", *FLOAT), F32_NMSE),
    Op("less", "a < b.", _compare("less")),
    Op("equal", "a == b.", _compare("equal")),
    Op("and", "Both.", _same("and", "b")),
    Op("not", "Neither more nor less than the opposite.", _same("not", "b")),
    Op("where", "a where the condition holds, else b.", _where),
    Op("cast", "The values in `dtype`; floats round to nearest even, and towards zero to integers.", _cast),
    Op("reshape", "The same elements in row-major order under `shape`.", _reshape),
    Op("permute", "Axes reordered by `axes`.", _permute),
    Op("slice", "`start` up to `stop` of `axis`.", _slice),
    Op("concat", "The inputs one after another along `axis`.", _concat),
    Op("expand", "Axes of length 1 repeated up to `shape`.", _expand),
    Op("take", "x[index]: rows of x along axis 0.", _take),
    Op("iota", "0, 1, 2 ... up to `size`, which may be symbolic.", _iota),
    Op("sum", "Sum over `axis`, kept with length 1.", _reduce("sum"), F32_NMSE),
    Op("max", "Maximum over `axis`, kept with length 1.", _reduce("max")),
    Op("matmul", "a @ b over the last two axes; the axes before are equal.", _matmul, F32_NMSE),
    Op("dequantize", "The float32 values of a weight or state of any dtype.", _dequantize),
    Op(
        "write",
        "The state after state[slots] = values, rounded to its dtype. A slot below 0 is not written.",
        _write,
        changes=True,
    ),
):
    define(_op)
