"""A graph pass that splits a model over processes (tensor parallel): each computes with its part of the weights.

    linear(x, W)  with W's rows split     gives each its part of the result's columns: of heads, of a hidden layer
    linear(x, W)  with x's columns split  takes W's columns, and its result is summed over the processes: all_reduce

Values between the two stay split, and so do the states that they are written to. Which matrices can be split by rows
follows from the graph: those whose results come to such sums, or are given up, with all that would have to be whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from puna.graph.lower import rewrite
from puna.graph.ops import apply
from puna.graph.tensor import Dim, Shape, Tensor, topological, weight

Axis = int | None
Needs = tuple[Sequence[Axis], Axis]
"""Along which axis each input must be split (None: be whole), and along which one the result then is."""


class Part(NamedTuple):
    """`start` up to `stop` of an axis of a stored tensor, or of another part."""

    name: str
    axis: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.name}[{self.axis}: {self.start} to {self.stop}]"


@dataclass(frozen=True, slots=True)
class Value:
    """What a node became: along which axis it is split, and the matrices on whose account it is."""

    node: Tensor
    axis: Axis = None
    roots: frozenset[str] = frozenset()


class _Whole(Exception):
    """A value must be whole here."""


def shard(outputs: Sequence[Tensor], rank: int, count: int) -> tuple[list[Tensor], dict[str, Part]]:
    """The graph of process `rank` of `count`, and what its weights with new names are parts of."""
    whole: set[str] = set()
    outputs, pieces = _unjoined(outputs)
    while True:
        split = _Splitting(rank, count, whole)
        made = [split.output(node) for node in split.run(outputs)]
        if not split.given_up:
            return made, pieces | split.parts
        whole |= split.given_up


def _unjoined(outputs: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, Part]]:
    """Matrices in one, as q, k and v are in some models, become several: parts of its rows."""
    parts: dict[str, Part] = {}

    def leaf(node: Tensor, start: int, stop: int) -> Tensor:
        part = Part(node.name, 0, start, stop)
        parts[str(part)] = part
        return weight(str(part), (stop - start, *node.shape[1:]), node.dtype)  # type: ignore[arg-type]  # numbers

    def change(node: Tensor) -> Tensor:
        if node.op != "slice" or node.inputs[0].op != "linear" or node.attrs["axis"] != 1:
            return node
        x, w, bias = node.inputs[0].inputs
        if w.op != "weight" or (bias is not None and bias.op != "weight"):
            return node
        rows = node.attrs["start"], node.attrs["stop"]
        return apply("linear", x, leaf(w, *rows), None if bias is None else leaf(bias, *rows))

    return rewrite(outputs, change), parts


class _Splitting:
    """One try, in which the matrices of `whole` are not split by rows."""

    def __init__(self, rank: int, count: int, whole: set[str]) -> None:
        self.rank, self.count, self.whole = rank, count, whole
        self.given_up: set[str] = set()
        self.parts: dict[str, Part] = {}
        self._states: dict[str, Value] = {}
        self._leaves: dict[tuple[str, int], Tensor] = {}

    def run(self, outputs: Sequence[Tensor]) -> list[Value]:
        """Every node after its inputs."""
        values: dict[Tensor, Value] = {}
        for node in topological(outputs):
            values[node] = self._made(node, [None if i is None else values[i] for i in node.inputs])
        return [values[o] for o in outputs]

    def output(self, value: Value) -> Tensor:
        """A result is whole, but a state may stay split."""
        if value.axis is not None and value.node.op != "write":
            self.given_up |= value.roots
        return value.node

    def _made(self, node: Tensor, inputs: list[Value | None]) -> Value:
        if node.op == "state":
            return self._states.get(node.name, Value(node))
        axes = [None if value is None else value.axis for value in inputs]
        root = node.op in ROOTS and node.inputs[1].op == "weight" and node.inputs[1].name not in self.whole
        if not node.inputs or (not root and not any(axis is not None for axis in axes)):
            return Value(_remade(node, [None if v is None else v.node for v in inputs], {}))
        try:
            return self._split(node, inputs, axes, root)
        except _Whole:
            self.given_up |= {name for value in inputs if value is not None for name in value.roots}
            if root:
                self.given_up.add(node.inputs[1].name)
            return Value(node)  # of no account: there will be another try

    def _split(self, node: Tensor, inputs: list[Value | None], axes: list[Axis], root: bool) -> Value:
        needs, axis = RULES[node.op](node, axes) if node.op in RULES else _refused(node, axes)
        roots = frozenset[str]().union(*(value.roots for value in inputs if value is not None))
        summed = node.op in ROOTS and axes[0] is not None
        if root and not summed:
            roots |= {node.inputs[1].name}
        pieces = [None if v is None else self._piece(v, need, roots) for v, need in zip(inputs, needs, strict=True)]
        if summed:
            return Value(self._summed(node, pieces))
        return Value(_remade(node, pieces, self._attrs(node, axis)), axis, roots)

    def _summed(self, node: Tensor, pieces: list[Tensor | None]) -> Tensor:
        """The sum of all processes' products, of which the first one's has the bias."""
        *others, bias = pieces
        return apply("all_reduce", apply(node.op, *others, None if self.rank else bias), count=self.count)

    def _attrs(self, node: Tensor, axis: Axis) -> dict[str, Shape]:
        """Shapes that a node has as an attribute, with the axis that is split."""
        if "shape" not in node.attrs or axis is None:
            return {}
        return {"shape": tuple(self._share(d) if i == axis else d for i, d in enumerate(node.attrs["shape"]))}

    def _share(self, size: int | Dim) -> int:
        if isinstance(size, Dim) or size % self.count:
            raise _Whole
        return size // self.count

    def _piece(self, value: Value, need: Axis, roots: frozenset[str]) -> Tensor:
        """A value split as is needed; what is whole is cut here."""
        if value.axis == need:
            return value.node
        if need is None or value.axis is not None:
            raise _Whole
        node, size = value.node, self._share(value.node.shape[need])
        if node.op == "state":
            shape = tuple(size if i == need else d for i, d in enumerate(node.shape))
            made = Value(Tensor("state", (), node.attrs, shape, node.dtype), need, roots)
            return self._states.setdefault(node.name, made).node
        if node.op == "weight":
            return self._leaf(node, need, size)
        return apply("slice", node, axis=need, start=self.rank * size, stop=(self.rank + 1) * size)

    def _leaf(self, node: Tensor, axis: int, size: int) -> Tensor:
        if axis == len(node.shape) - 1 and size % node.dtype.block_size:
            raise _Whole
        part = Part(node.name, axis, self.rank * size, (self.rank + 1) * size)
        self.parts[str(part)] = part
        shape = tuple(size if i == axis else int(d) for i, d in enumerate(node.shape))  # type: ignore[arg-type]
        return self._leaves.setdefault((node.name, axis), weight(str(part), shape, node.dtype))


def _remade(node: Tensor, inputs: Sequence[Tensor | None], attrs: Mapping[str, object]) -> Tensor:
    same = not attrs and all(a is b for a, b in zip(inputs, node.inputs, strict=True))
    return node if same or not node.inputs else apply(node.op, *inputs, **{**node.attrs, **attrs})


# ---- rules: given a node and the axes along which its inputs are split, what it needs -------------------------------


def _refused(node: Tensor, axes: Sequence[Axis]) -> Needs:
    raise _Whole


def _elementwise(node: Tensor, axes: Sequence[Axis]) -> Needs:
    """Axes are counted from the last one; an input that has length 1 there stays whole."""
    ranks = [len(i.shape) for i in node.inputs]
    behind = {rank - axis for rank, axis in zip(ranks, axes, strict=True) if axis is not None}
    if len(behind) > 1:
        raise _Whole
    (back,) = behind
    fits = [rank >= back and i.shape[rank - back] != 1 for rank, i in zip(ranks, node.inputs, strict=True)]
    return [rank - back if fit else None for rank, fit in zip(ranks, fits, strict=True)], len(node.shape) - back


def _rows(node: Tensor, axes: Sequence[Axis]) -> Needs:
    """What works along the last axis: another one may be split."""
    axis = axes[0]
    if axis is None or axis == len(node.shape) - 1:
        raise _Whole
    return [axis, *[None] * (len(axes) - 1)], axis


def _linear(node: Tensor, axes: Sequence[Axis]) -> Needs:
    if axes[0] is not None:
        return ([1, 1, None], None) if axes[0] == 1 else _refused(node, axes)
    return [None, 0, 0], 1


def _experts(node: Tensor, axes: Sequence[Axis]) -> Needs:
    last = len(node.inputs[0].shape) - 1
    if axes[0] is not None:
        return ([last, 2, None, None], None) if axes[0] == last else _refused(node, axes)
    return [None, 1, None, 1], 2


def _reshape(node: Tensor, axes: Sequence[Axis]) -> Needs:
    """The axis that as many elements are before, in parts of which the split one is made, or that is made of it."""
    (axis,) = axes
    if axis is None:
        raise _Whole
    shape, before = node.inputs[0].shape, _product(node.inputs[0].shape[:axis])
    for i, size in enumerate(node.shape):
        if _product(node.shape[:i]) == before and size != 1 and isinstance(size, int):
            sizes = sorted((size, int(shape[axis])))
            return ([axis], i) if sizes[1] % sizes[0] == 0 else _refused(node, axes)
    raise _Whole


def _product(shape: Shape) -> tuple[int, list[str]]:
    number = 1
    for size in shape:
        number *= size if isinstance(size, int) else 1
    return number, sorted(size.name for size in shape if isinstance(size, Dim))


def _permute(node: Tensor, axes: Sequence[Axis]) -> Needs:
    return axes, node.attrs["axes"].index(axes[0])


def _along(node: Tensor, axes: Sequence[Axis]) -> Needs:
    """What works along the axis that is its attribute: another one may be split."""
    (axis,) = {axis for axis in axes if axis is not None} if len({*axes} - {None}) == 1 else (None,)
    if axis is None or axis == node.attrs["axis"]:
        raise _Whole
    return [axis] * len(axes), axis


def _expand(node: Tensor, axes: Sequence[Axis]) -> Needs:
    return axes, axes[0]


def _take(node: Tensor, axes: Sequence[Axis]) -> Needs:
    axis = axes[0]
    if not axis:
        raise _Whole
    return [axis, None], axis - 1 + len(node.inputs[1].shape)


def _matmul(node: Tensor, axes: Sequence[Axis]) -> Needs:
    a, b = axes
    last = len(node.shape) - 1
    if a is not None and a < last - 1:
        return [a, a], a
    if b is not None and b < last - 1:
        return [b, b], b
    if a == last - 1 and b is None:
        return [a, None], a
    if a is None and b == last:
        return [None, b], b
    raise _Whole


def _write(node: Tensor, axes: Sequence[Axis]) -> Needs:
    axis = axes[2]
    if not axis:
        raise _Whole
    return [axis, None, axis], axis


def _by_table(*needs: Axis, out: int) -> Callable[[Tensor, Sequence[Axis]], Needs]:
    """Along the axes of a table, whatever came; optional inputs behind it stay away."""
    return lambda node, axes: (needs[: len(axes)], out)


_PLAIN = (
    *("add", "sub", "mul", "div", "maximum", "minimum", "neg", "abs", "exp", "log", "sqrt", "sin", "cos", "tanh"),
    *("erf", "less", "equal", "and", "not", "where", "cast", "sigmoid", "silu", "gelu", "silu_mul", "gelu_mul"),
)
ROOTS = ("linear", "experts")
"""Ops that read a matrix as their second input."""

RULES: dict[str, Callable[[Tensor, Sequence[Axis]], Needs]] = {
    **dict.fromkeys(_PLAIN, _elementwise),
    **dict.fromkeys(("rms_norm", "layer_norm", "softmax", "top_k"), _rows),
    **dict.fromkeys(("slice", "concat", "sum", "max"), _along),
    "rope": _rows,
    "linear": _linear,
    "experts": _experts,
    "reshape": _reshape,
    "permute": _permute,
    "expand": _expand,
    "take": _take,
    "matmul": _matmul,
    "write": _write,
    "attention": _by_table(1, 1, 1, None, None, None, None, 0, 0, out=1),
    "causal_conv1d": _by_table(2, 1, 0, None, None, None, out=1),
    "recurrence": _by_table(1, 1, 1, 1, 1, 1, 1, 0, None, None, None, out=1),
}
"""What each op needs; any other op needs whole values."""
