"""From a lowered graph to steps: every node becomes a view, most by a step that writes it.

A node that its reader makes better itself is *deferred* (fuse.py names them) and emitted only when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import dtypes
from puna.backends.cpu import _native, fuse, grouping, views
from puna.backends.cpu.steps import Step
from puna.backends.cpu.views import Extents, Storage, View
from puna.backends.cpu.weights import Weights
from puna.dtypes import DType
from puna.graph.plan import ALIGNMENT
from puna.graph.tensor import Tensor

Emit = Callable[["Lowering", Tensor], View]
Kept = tuple[NDArray[np.uint8], int]
"""A state's memory, and how its slots lie."""

EMIT: dict[str, Emit] = {}
"""How each op becomes a view; filled by the emit_* files."""


def emits(*ops: str) -> Callable[[Emit], Emit]:
    """Register the function that emits `ops`."""

    def register(function: Emit) -> Emit:
        EMIT.update(dict.fromkeys(ops, function))
        return function

    return register


def allocate_states(nodes: Sequence[Tensor]) -> dict[Tensor, NDArray[np.uint8]]:
    """Memory of each state, zero, and taken only where it is written."""
    sizes = [node.dtype.nbytes(tuple(d for d in node.shape if isinstance(d, int))) for node in nodes]
    starts = [0, *accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)]
    block = _native.zeros(starts[-1])
    return {node: block[start : start + size] for node, start, size in zip(nodes, starts, sizes, strict=False)}


class Lowering:
    """The steps and storages of one program while they are made."""

    def __init__(
        self, outputs: Sequence[Tensor], weights: Weights, writes: Sequence[Tensor], others: Mapping[str, Kept]
    ) -> None:
        self.weights = weights
        self.steps: list[Step] = []
        self.storages: list[Storage] = []
        self.shared: dict[object, View] = {}  # values that several nodes read and no node is: activations, tables
        whole = [*outputs, *writes]
        self.consumers = fuse.consumers_of(whole)
        self.nodes = list(self.consumers)  # each after what it reads
        states = [n for n in self.nodes if n.op == "state"]
        shared = {n: others[n.name] for n in states if n.name in others}
        self.states = allocate_states([n for n in states if n not in shared])
        self.states |= {n: array for n, (array, _) in shared.items()}
        self.deferred = fuse.deferred(whole, self.consumers) | grouping.grouped(whole, self.consumers)
        self._orders = fuse.paged(outputs, self.consumers) | {n: order for n, (_, order) in shared.items()}
        self._wanted = set(outputs)
        self._outside: dict[int, Storage] = {}  # by address, so that one array is one storage
        self._views: dict[Tensor, View] = {}
        self._done: set[Tensor] = set()
        for node in self.nodes:
            if node not in self.deferred and node.op != "weight":  # those are made as their readers want them
                self.view(node)
        self.outputs = [self._output(node) for node in outputs]

    def view(self, node: Tensor) -> View:
        """Where a node's value lies; emitted now if it is not yet."""
        if node not in self._views:
            self._views[node] = EMIT[node.op](self, node)
            self._done.add(node)
        return self._views[node]

    def absorbed(self, node: Tensor) -> None:
        """Note that a deferred node's inputs are read: its reader has made it."""
        self._done.add(node)

    def is_emitted(self, node: Tensor) -> bool:
        """Whether a deferred node had to be made by itself after all."""
        return node in self._views

    def order(self, state: Tensor) -> int:
        """How the slots of a state, or of what was written to one, lie."""
        return self._orders.get(fuse.state_of(state), fuse.SLOTS)

    @property
    def kept(self) -> dict[str, Kept]:
        """Each state's memory by its name."""
        return {node.name: (array, self.order(node)) for node, array in self.states.items()}

    def planned(self, nbytes: Callable[[Mapping[str, int]], int]) -> Storage:
        """A storage that the planner places."""
        self.storages.append(Storage(len(self.storages), nbytes))
        return self.storages[-1]

    def outside(self, array: NDArray[Any], dtype: DType, shape: Extents) -> View:
        """A view of an array's memory."""
        flat = array.reshape(-1).view(np.uint8)
        address = flat.ctypes.data  # it stays that array's while the storage keeps it
        if address not in self._outside:
            self.storages.append(Storage(len(self.storages), lambda sizes: 0, flat))
            self._outside[address] = self.storages[-1]
        return views.whole(self._outside[address], dtype, shape)

    def new(self, dtype: DType, shape: Extents) -> View:
        """A new row-major value."""
        count = views.product(shape)
        return views.whole(self.planned(lambda sizes: views.value(count, sizes) * dtype.block_bytes), dtype, shape)

    def bytes_(self, nbytes: Callable[[Mapping[str, int]], int]) -> View:
        """A new value whose layout only kernels know."""
        return views.whole(self.planned(nbytes), dtypes.U8, (views.ZERO,))

    def step(self, kernel: str, out: View, *inputs: View | None, label: str = "", **numbers: Any) -> View:
        """Append a step; its output."""
        self.steps.append(Step(kernel, (out, *inputs), label=label or kernel, **numbers))
        return out

    def copied(self, view: View) -> View:
        """The value, row-major, in memory of its own."""
        return self.step("copy", self.new(view.dtype, view.shape), view)

    def reshaped(self, view: View, shape: Extents) -> View:
        """The value under another shape; copied only where strides force it."""
        found = views.reshape(view, shape)
        return found or views.whole(self.copied(view).storage, view.dtype, shape)

    def rows(self, view: View) -> View:
        """The value with neighbouring elements in its last axis."""
        return view if view.has_whole_rows else self.copied(view)

    def may_overwrite(self, node: Tensor, by: Tensor) -> bool:
        """Whether `by`, reading `node`, may write its result there: nobody else will read it."""
        if node.op == "reshape" and self.consumers[node] == [by] and node not in self._wanted:
            return self.view(node).contiguous and self.may_overwrite(node.sources[0], node)
        others = [c for c in self.consumers[node] if c is not by]
        quiet = all(c in self._done and c.op not in fuse.VIEW_OPS for c in others)
        made = node.op not in fuse.VIEW_OPS and node.op not in fuse.LEAVES and node not in self._wanted
        return quiet and made and self.consumers[node].count(by) == 1 and self.view(node).contiguous

    def _output(self, node: Tensor) -> View:
        view = self.view(node)
        if not self._may_be_returned(view, node):
            state = node.op in ("state", "write") and node.dtype is not dtypes.F32
            view = EMIT["dequantize"](self, _reading(node)) if state else self.copied(view)
        view.storage.fixed = True
        return view

    def _may_be_returned(self, view: View, node: Tensor) -> bool:
        outside = view.storage.array is not None or node.op == "input"
        return view.contiguous and not view.offset and not outside


def _reading(state: Tensor) -> Tensor:
    return Tensor("dequantize", (state,), {}, state.shape, dtypes.F32)
