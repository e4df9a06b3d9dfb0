"""Weights and states in ggml's buffers: as they are stored where ggml computes with them, else as floats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from puna import dtypes, quants
from puna.backends.base import Array, Progress
from puna.backends.ggml.hardware import Hardware, Kept
from puna.backends.stored import checked
from puna.dtypes import DTYPES, DType, Stored
from puna.errors import BackendError
from puna.graph.tensor import Tensor as Node

NATIVE = frozenset(DTYPES) - {
    *("F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"),
    *("F8_E4M3", "F8_E5M2", "F8_E8M0", "Q8_K", "Q8_1"),
}
"""Types of matrices that ggml multiplies by."""


def reversed_dims(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A row-major shape as ggml counts: the last axis first, four of them; those before the last three are one."""
    last = shape[-3:][::-1]
    return (*last, *(1,) * (3 - len(last)), prod(shape[:-3]))  # type: ignore[return-value]  # four of them


class State:
    """Memory of `shape`, its first axis slots, kept in `dtype`; one slot more takes what is not to be written."""

    def __init__(self, hardware: Hardware, dtype: DType, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape, self.row, self.hardware = dtype, shape, prod(shape[1:]), hardware
        if dtype.ggml_id is None or self.row % dtype.block_size:
            raise BackendError(f"backend 'ggml': no state of {dtype} with rows of {self.row}; f16 or f32 would work")
        self.kept = Kept(hardware, dtype.ggml_id, (self.row, shape[0] + 1, 1, 1), None)
        self.nbytes = dtype.nbytes(shape)

    @property
    def raw(self) -> Array:
        """A copy of its bytes: (slots, bytes of one)."""
        return self.kept.bytes().reshape(self.shape[0] + 1, -1)[:-1]

    @property
    def values(self) -> Array:
        """All of them, float32."""
        return quants.dequantize(self.raw.reshape(-1), self.dtype.name, self.shape)

    def put(self, raw: Array) -> None:
        """All bytes anew, as `raw` gave them."""
        self.kept.put(raw)


class Weights:
    """Stored tensors by name, and what of them is in buffers."""

    def __init__(
        self,
        stored: Mapping[str, Stored],
        progress: Progress | None,
        beside: Weights | None = None,
    ) -> None:
        self._stored = stored
        self._progress = progress
        self._made: dict[str, Kept] = {}
        self._beside = beside

    @property
    def nbytes(self) -> int:
        """Bytes in buffers so far."""
        return sum(kept.nbytes for kept in self._made.values())

    def finish(self) -> None:
        """Nothing is under way: `take` has waited."""

    def home(self, node: Node) -> Hardware | None:
        """The device that a weight is on already."""
        kept = self._of(node)[0]._made.get(node.name)
        return None if kept is None else kept.hardware

    def take(self, nodes: Iterable[Node], homes: Mapping[str, Hardware], others: Mapping[int, int]) -> dict[str, Kept]:
        """The weights of a graph that have a home, each there; `others` are bytes beside them, by a device's id().

        BackendError where one was not loaded or differs, or where there is no room.
        """
        named = {node.name: self._of(node) for node in nodes}
        named = {name: owned for name, owned in named.items() if name in homes}
        new = {name: (owner, stored) for name, (owner, stored) in named.items() if name not in owner._made}
        sizes = {name: stored.dtype.nbytes(tuple(stored.shape)) for name, (_, stored) in new.items()}
        for hardware in {id(each): each for each in homes.values()}.values():
            own = [size for name, size in sizes.items() if homes[name] is hardware]
            mapped = hardware.on_host  # where they are read, for the most part
            wanted = others.get(id(hardware), 0) + (0 if mapped else sum(own))
            hardware.require(wanted, "the weights, the cache and what is computed")
        done = 0
        for name, (owner, stored) in new.items():
            owner._made[name] = _loaded(stored, homes[name])
            done += sizes[name]
            if self._progress is not None:
                self._progress(done, sum(sizes.values()))
        return {name: owner._made[name] for name, (owner, _) in named.items()}

    def values(self, node: Node) -> Array:
        """A weight's values on the host."""
        return self._of(node)[1].numpy()

    def _of(self, node: Node) -> tuple[Weights, Stored]:
        stored = self._stored.get(node.name)
        if stored is None and self._beside is not None:
            return self._beside._of(node)
        return self, checked(self._stored, node, "ggml")


def _loaded(stored: Stored, hardware: Hardware) -> Kept:
    """A weight on a device, as floats where ggml does not compute with its type."""
    shape = tuple(stored.shape)
    ne = reversed_dims(shape)
    if stored.dtype is dtypes.F32 or (len(shape) > 1 and stored.dtype.name in NATIVE):
        return Kept(hardware, stored.dtype.ggml_id or 0, ne, np.asarray(stored.raw).view(np.uint8))
    values = np.ascontiguousarray(stored.numpy())
    kind = dtypes.I32 if values.dtype.kind == "i" else dtypes.F32
    values = values.astype(kind.numpy).reshape(-1).view(np.uint8)
    return Kept(hardware, kind.ggml_id or 0, ne, values)
