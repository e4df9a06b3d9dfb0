"""A graph of ggml's being built: values on the device, what is fed into it before a run, and what is fetched after.

A value lies packed in memory, in row-major order; ggml counts axes from the last and has four.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from puna import dtypes
from puna.backends.base import Array
from puna.backends.ggml.api import Tensor as Described
from puna.backends.ggml.api import library
from puna.backends.ggml.hardware import Context, Hardware, Kept
from puna.backends.ggml.weights import State, reversed_dims
from puna.backends.walk import Step
from puna.dtypes import DType
from puna.errors import BackendError
from puna.graph.tensor import Tensor as Node
from puna.graph.tensor import concrete

Known = Mapping[Node, Array]
Make = Callable[[Step, Known], Array]
TENSORS_A_NODE = 24
"""Descriptions that there is room for, on average."""
F16 = 1
"""ggml's number of float16; that of float32 is 0."""


class Value(NamedTuple):
    """A tensor of ggml's with its row-major shape, the type it is stored in, and the state that it is, if any."""

    tensor: int
    shape: tuple[int, ...]
    dtype: DType = dtypes.F32
    state: State | None = None


class Feed(NamedTuple):
    """What fills a tensor before each run."""

    tensor: int
    nbytes: int
    make: Make
    dtype: Any


class Unsupported(Exception):
    """A device does not compute what a node needs."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.op)
        self.node = node


class Graph:
    """One graph for one set of sizes, on an arena's device. `values` begins with what lies there for good."""

    def __init__(
        self, values: Mapping[Node, Value], arena: Arena, sizes: Mapping[str, int], extents: Mapping[Hashable, int],
        count: int,
    ) -> None:  # fmt: skip
        self.lib, self.hardware, self.sizes, self.extents = library(), arena.hardware, sizes, extents
        self._arena, self._number = arena, -1
        self._node: Node | None = None
        most = TENSORS_A_NODE * (count + 8)
        overhead = self.lib.tensor_overhead() * most + self.lib.graph_overhead_custom(most, False)
        self._context = Context(overhead)
        self.context = self._context.handle
        self._graph = self.lib.new_graph_custom(self.context, most, False)
        self._values = dict(values)
        self._feeds: list[Feed] = []
        self._fetched: list[tuple[Node, Value]] = []
        self._once: dict[Any, Value] = {}

    # ---- building ----

    def shape(self, node: Node) -> tuple[int, ...]:
        """A node's shape in this graph."""
        return concrete(node.shape, self.sizes)

    def of(self, node: Node) -> Value:
        """A node's value on the device; one that the host knows is fed, and written states are there."""
        if node.op == "write" and node not in self._values:
            return self.of(node.inputs[0])
        if node not in self._values:
            self._values[node] = self.fed(node, self.shape(node), lambda step, known: known[node], node.dtype)
        return self._values[node]

    def fed(self, key: Any, shape: tuple[int, ...], make: Make, dtype: DType = dtypes.F32) -> Value:
        """A value that `make` gives before each run; one for each key."""
        if key not in self._once:
            tensor = self.lib.new_tensor_4d(self.context, dtype.ggml_id, *reversed_dims(shape))
            self.lib.set_input(tensor)
            self._feeds.append(Feed(tensor, dtype.nbytes(shape), make, dtype.numpy))
            self._once[key] = Value(tensor, shape, dtype)
        return self._once[key]

    def add(self, node: Node, emit: Callable[[Graph, Node], Value], *, fetched: bool) -> None:
        """A node, computed after all others until now and given to the host if `fetched`; or Unsupported."""
        self._node = node
        value = emit(self, node)
        if fetched:
            if Described.from_address(value.tensor).view_src or value.tensor in self._lying():
                value = value._replace(tensor=self("cont", value.tensor))
            self.lib.set_output(value.tensor)
            self._fetched.append((node, value))
        self._values[node] = value
        self.lib.build_forward_expand(self._graph, value.tensor)

    def _lying(self) -> set[int]:
        """Tensors that are values of nodes already: an output must be one of its own."""
        return {given.tensor for given in self._values.values()}

    def __call__(self, name: str, *given: Any) -> int:
        """A tensor by a function of ggml's; Unsupported where the device has it not."""
        tensor = self.tried(name, *given)
        if not self.hardware.supports(tensor) and self._node is not None:
            raise Unsupported(self._node)
        return tensor

    def tried(self, name: str, *given: Any) -> int:
        """The same, whether the device has it or not."""
        tensor: int = getattr(self.lib, name)(self.context, *given)
        return tensor

    def shaped(self, tensor: int, shape: Sequence[int]) -> int:
        """A packed tensor under another shape of up to four axes, row-major."""
        return self("reshape_4d", tensor, *reversed_dims(tuple(shape)))

    def expanded(self, tensor: int, shape: Sequence[int]) -> int:
        """A tensor with its axes of length 1 repeated."""
        return self("repeat_4d", tensor, *reversed_dims(tuple(shape)))

    def permuted(self, value: Value, axes: Sequence[int]) -> Value:
        """Axes reordered, and packed anew; at most four of them."""
        rank = len(axes)
        to = [rank - 1 - axes.index(rank - 1 - i) for i in range(rank)] + list(range(rank, 4))
        turned = self("cont", self("permute", value.tensor, *to))
        return Value(turned, tuple(value.shape[a] for a in axes))

    def floats(self, value: Value) -> Value:
        """A value as float32."""
        if value.dtype is dtypes.F32:
            return value
        return Value(self("cast", value.tensor, dtypes.F32.ggml_id), value.shape)

    # ---- running ----

    def allocate(self) -> None:
        """Gives its values places."""
        self._number = self._arena.place(self._graph)

    def alive(self) -> bool:
        """Whether its places are still there."""
        return self._number == self._arena.number

    def run(self, step: Step, known: dict[Node, Array]) -> None:
        """Feeds it, computes it, and adds what is fetched to what is known."""
        for tensor, nbytes, make, dtype in self._feeds:
            array = np.ascontiguousarray(make(step, known), dtype)
            if array.nbytes != nbytes:
                raise BackendError(f"backend 'ggml': {array.shape} was fed where {nbytes} bytes are")
            self.lib.backend_tensor_set(tensor, array.ctypes.data, 0, nbytes)
        if status := self.lib.backend_graph_compute(self.hardware.backend, self._graph):
            raise BackendError(f"running on ggml:{self.hardware.name}: it failed with status {status}")
        for node, value in self._fetched:
            found = np.empty(value.shape, np.float32 if value.dtype is dtypes.F32 else np.int32)
            self.lib.backend_tensor_get(value.tensor, found.ctypes.data, 0, found.nbytes)
            known[node] = found


class Arena:
    """The memory of values on a device: one for all graphs of a program there, of which one runs at a time."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self._lib = library()
        self._handle = self._lib.gallocr_new(hardware.buffers)
        self.number = 0

    def place(self, graph: int) -> int:
        """Gives a graph's values places; the number of this memory, another one where it had to grow."""
        before = self._lib.gallocr_get_buffer_size(self._handle, 0)
        if not self._lib.gallocr_alloc_graph(self._handle, graph):
            raise BackendError("backend 'ggml': no room for the values of a run; a smaller batch may fit")
        self.number += self._lib.gallocr_get_buffer_size(self._handle, 0) != before
        return self.number

    def __del__(self) -> None:
        self._lib.gallocr_free(self._handle)


def constant(hardware: Hardware, array: Array) -> Kept:
    """An array that stays on the device."""
    data = np.ascontiguousarray(array, np.float32)
    return Kept(hardware, 0, reversed_dims(data.shape), data.reshape(-1).view(np.uint8))


def collapsed(a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Two shapes that broadcast, with axes joined that need not be apart."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b), strict=True)
    out: list[tuple[int, int]] = []
    for pair in pairs:
        if pair == (1, 1):
            continue
        if out and [d == 1 for d in out[-1]] == [d == 1 for d in pair]:
            out[-1] = (out[-1][0] * pair[0], out[-1][1] * pair[1])
        else:
            out.append(pair)
    return [x for x, _ in out] or [1], [y for _, y in out] or [1]


def elements(shape: Sequence[int]) -> int:
    """How many there are."""
    return prod(shape)
