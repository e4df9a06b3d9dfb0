"""Weights in MLX's memory: as codes where MLX multiplies by them, else as floats.

The bytes of a weight are read when the first program that reads it is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import mlx.core as mx
import numpy as np

from puna.backends.base import Progress
from puna.backends.mlx.hardware import require
from puna.backends.mlx.values import CODED, GROUP, Affine, Weight
from puna.backends.stored import checked
from puna.dtypes import I32, Stored
from puna.graph.tensor import Tensor as Node


class Weights:
    """Stored tensors by name, and what of them is in memory. `wide` is the type of matrices that are floats there."""

    def __init__(
        self,
        stored: Mapping[str, Stored],
        device: mx.Device,
        wide: mx.Dtype,
        progress: Progress | None,
        beside: Weights | None = None,
    ) -> None:
        self._stored = stored
        self._device = device
        self._wide = wide
        self._progress = progress
        self._made: dict[str, Weight] = {}
        self._beside = beside

    @property
    def nbytes(self) -> int:
        """Bytes in memory so far."""
        return sum(value.nbytes for value in self._made.values())

    def finish(self) -> None:
        """Nothing is under way: `take` has waited."""

    def take(self, nodes: Iterable[Node], others: int) -> dict[str, Weight]:
        """The weights of a graph.

        BackendError where one was not loaded or differs, or where they do not fit beside `others` bytes.
        """
        nodes = list(nodes)
        theirs = [node for node in nodes if self._beside is not None and node.name not in self._stored]
        found = self._beside.take(theirs, others) if self._beside is not None else {}
        named = {node.name: checked(self._stored, node, "mlx") for node in nodes if node not in theirs}
        new = {name: stored for name, stored in named.items() if name not in self._made}
        needed = sum(map(self._size, new.values())) + others
        require(self._device, needed, "the weights, the cache and what is computed")
        total, done = sum(stored.dtype.nbytes(tuple(stored.shape)) for stored in new.values()), 0
        for name, stored in new.items():
            self._made[name] = self._loaded(stored)
            done += stored.dtype.nbytes(tuple(stored.shape))
            if self._progress is not None:
                self._progress(done, total)
        return found | {name: self._made[name] for name in named}

    def _size(self, stored: Stored) -> int:
        """Bytes that it will take."""
        count, name = prod(stored.shape), stored.dtype.name
        return count * (CODED[name].bits + 64 // GROUP) // 8 if name in CODED else count * self._type(stored).size

    def _type(self, stored: Stored) -> mx.Dtype:
        if stored.dtype is I32:
            return mx.int32
        return mx.float32 if stored.dtype.name == "F32" or len(stored.shape) < 2 else self._wide

    def _loaded(self, stored: Stored) -> Weight:
        shape = tuple(stored.shape)
        if stored.dtype.name in CODED and len(shape) > 1:
            value: Weight = Affine(np.asarray(stored.raw).view(np.uint8), stored.dtype, shape)
            mx.eval(value.codes, value.scales, value.biases)
            return value
        floats = mx.array(np.asarray(stored.numpy())).astype(self._type(stored))
        mx.eval(floats)
        return floats
