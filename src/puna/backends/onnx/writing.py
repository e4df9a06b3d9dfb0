"""A graph of ONNX in the making: nodes, small constants, sizes known when it runs. It knows no op of Puna's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from puna import dtypes
from puna.dtypes import DType
from puna.graph.tensor import Dim, Shape

Array = NDArray[Any]
CONTRIBUTED = "com.microsoft"
"""The domain of onnxruntime's own ops."""

PLAIN = {dtypes.F32: TensorProto.FLOAT, dtypes.I32: TensorProto.INT32, dtypes.BOOL: TensorProto.BOOL}
"""The dtypes that nodes compute in."""


Described = tuple[str, int, Sequence[Any] | None]
"""A name, the type of elements, and the shape where it is known."""


class Writer:
    """A graph; `sizes` are names of tensors (1,) int64 with the sizes of symbols. A body knows what is outside."""

    def __init__(self, sizes: dict[str, str], outside: Writer | None = None) -> None:
        self.sizes = sizes
        self.nodes: list[NodeProto] = []
        self._outside = outside
        self._count: list[int] = outside._count if outside else [0]
        self._constants: dict[object, str] = outside._constants if outside else {}
        self.initializers: list[TensorProto] = outside.initializers if outside else []
        self._taken: set[str] = outside._taken if outside else set()
        self._known: dict[object, Any] = {}

    def name(self, what: str) -> str:
        """A name that is new."""
        self._count[0] += 1
        return f"{what}.{self._count[0]}"

    def free(self, name: str) -> str:
        """This name, or one like it if it is given already."""
        free = name if name not in self._taken else self.name(name)
        self._taken.add(free)
        return free

    def __call__(self, op: str, *inputs: str | None, called: str = "", contributed: bool = False, **attrs: Any) -> str:
        """A node with one output, which it gives; it has a name of its own, or is `called` something."""
        names = [called or self.name(op)]
        self._add(op, inputs, names, contributed, attrs)
        return names[0]

    def several(self, op: str, *inputs: str | None, count: int, **attrs: Any) -> Sequence[str]:
        """A node with so many outputs."""
        names = [self.name(op) for _ in range(count)]
        self._add(op, inputs, names, False, attrs)
        return names

    def _add(
        self, op: str, inputs: Sequence[str | None], outputs: list[str], contributed: bool, attrs: dict[str, Any]
    ) -> None:
        domain = CONTRIBUTED if contributed else ""
        self.nodes.append(helper.make_node(op, [i or "" for i in inputs], outputs, domain=domain, **attrs))

    def constant(self, value: Any, dtype: Any = None) -> str:
        """A small array."""
        array = np.asarray(value, dtype)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.name("constant")
            self.initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def ints(self, *values: int | Dim) -> str:
        """Numbers (n,) int64, as axes, shapes and bounds are given."""
        return self.constant(values, np.int64)

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once in this graph, or found outside of it."""
        graph: Writer | None = self
        while graph is not None:
            if key in graph._known:
                return graph._known[key]
            graph = graph._outside
        return self._known.setdefault(key, make())

    def size(self, dim: int | Dim) -> str:
        """(1,) int64."""
        return self.sizes[dim.name] if isinstance(dim, Dim) else self.ints(dim)

    def shape(self, shape: Shape) -> str:
        """A shape as a tensor; of symbols, one is left for what fits."""
        symbols = [d for d in shape if isinstance(d, Dim)]
        if len(symbols) < 2 and 0 not in shape:
            return self.ints(*(-1 if isinstance(d, Dim) else d for d in shape))
        return self("Concat", *map(self.size, shape), axis=0)

    def reshaped(self, x: str, shape: Shape) -> str:
        """The same elements under another shape."""
        return self("Reshape", x, self.shape(shape), allowzero=1)

    def axes(self, op: str, x: str, *axes: int) -> str:
        """An op whose axes are an input: Squeeze, Unsqueeze."""
        return self(op, x, self.ints(*axes))

    def cast(self, x: str, to: int) -> str:
        """Another type of elements."""
        return self("Cast", x, to=to)

    def cut(self, x: str, axis: int, start: int | str, stop: int | str, step: int = 1) -> str:
        """Elements `start` up to `stop` of an axis; numbers, or tensors (1,)."""
        first, last = (each if isinstance(each, str) else self.ints(each) for each in (start, stop))
        return self("Slice", x, first, last, self.ints(axis), self.ints(step))

    def upto(self, count: str) -> str:
        """0, 1, 2 ... (count,) int32, of a tensor (1,) int64."""
        last = self.cast(self("Squeeze", count), TensorProto.INT32)
        return self("Range", self.constant(0, np.int32), last, self.constant(1, np.int32))

    def body(
        self,
        inputs: Sequence[Described],
        write: Callable[..., Sequence[Described]],
    ) -> GraphProto:
        """A graph inside of this one: what it is given, named and typed; `write` gives what it gives, typed too."""
        inner = Writer(self.sizes, self)
        given = [(inner.name(name), kind, shape) for name, kind, shape in inputs]
        found = write(inner, *(name for name, _, _ in given))
        named = [(inner("Identity", name), kind, shape) for name, kind, shape in found]
        infos = ([value_info(*each) for each in some] for some in (given, named))
        return helper.make_graph(inner.nodes, inner.name("body"), *infos)

    def loop(self, count: str, carried: Sequence[tuple[str, Described]], step: Callable[..., Any]) -> Sequence[str]:
        """`step(writer, i, *carried)` for i (1,) int64 from 0 to `count` (1,) gives what is carried on, and others.

        Back comes what is carried in the end, then the others of all steps, one behind the other.
        """
        kinds = [described for _, described in carried]

        def written(inner: Writer, i: str, going: str, *values: str) -> Sequence[Described]:
            after, besides = step(inner, inner("Unsqueeze", i, inner.ints(0)), *values)
            named = [(name, kind, shape) for name, (_, kind, shape) in zip(after, kinds, strict=True)]
            return [(going, TensorProto.BOOL, []), *named, *besides]

        given = [("i", TensorProto.INT64, []), ("going", TensorProto.BOOL, []), *kinds]
        body = self.body(given, written)
        inputs = (self("Squeeze", count), None, *(name for name, _ in carried))
        return self.several("Loop", *inputs, count=len(body.output) - 1, body=body)

    def either(self, condition: str, then: Callable[[Writer], str], other: Callable[[Writer], str]) -> str:
        """What one of two bodies gives, float32."""
        kind = TensorProto.FLOAT
        bodies = (self.body([], lambda inner, make=make: [(make(inner), kind, None)]) for make in (then, other))
        return self("If", condition, **dict(zip(("then_branch", "else_branch"), bodies, strict=True)))


def value_info(name: str, kind: int, shape: Sequence[Any] | None) -> ValueInfoProto:
    """What is said of an input or an output."""
    return helper.make_tensor_value_info(name, kind, shape)


def plain(dtype: DType) -> int:
    """ONNX's name for a dtype that nodes compute in; a state is given as float32."""
    return int(PLAIN.get(dtype, TensorProto.FLOAT))
