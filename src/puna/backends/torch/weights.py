"""Weights on one device: packed as they are stored, or expanded once, by what memory allows.

The bytes of a weight are read when the first program that reads it is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np
import torch

from puna.backends.base import Progress
from puna.backends.stored import checked
from puna.backends.torch.blocks import Tensor
from puna.backends.torch.decoders import DECODERS
from puna.backends.torch.hardware import memory, require
from puna.backends.torch.values import Packed
from puna.dtypes import Stored
from puna.graph.tensor import Tensor as Node

PRODUCTS = ("linear", "experts")
"""Ops that read a weight as the matrix of a product: their second input."""

SHARE = 0.8
"""Of what is free, what expanded weights may take with all else."""

Value: TypeAlias = Tensor | Packed


class Weights:
    """Stored tensors by name, and what of them is on the device. `expand` decides, or None: memory does."""

    def __init__(
        self,
        stored: Mapping[str, Stored],
        device: torch.device,
        wide: torch.dtype,
        expand: bool | None,
        progress: Progress | None,
        beside: Weights | None = None,
    ) -> None:
        self._stored = stored
        self._device = device
        self._wide = wide
        self._expand = expand
        self._progress = progress
        self._made: dict[str, Value] = {}
        self._beside = beside

    @property
    def nbytes(self) -> int:
        """Bytes on the device so far."""
        return sum(_nbytes(value) for value in self._made.values())

    def finish(self) -> None:
        """Nothing is under way: `take` has waited."""

    def take(self, nodes: Iterable[Node], wide: set[str], others: int) -> dict[str, Value]:
        """The weights of a graph on the device, those of `wide` expanded if all fits beside `others` bytes.

        BackendError where one was not loaded or differs, or where they do not fit even as they are stored.
        """
        nodes = list(nodes)
        if self._beside is not None:
            theirs = [node for node in nodes if node.name not in self._stored]
            mine = [node for node in nodes if node.name in self._stored]
            return self._beside.take(theirs, wide, others) | self._taken(mine, wide, others)
        return self._taken(nodes, wide, others)

    def _taken(self, nodes: Iterable[Node], wide: set[str], others: int) -> dict[str, Value]:
        named = {node.name: checked(self._stored, node, "torch") for node in nodes}
        new = {name: stored for name, stored in named.items() if name not in self._made}
        packed = sum(stored.dtype.nbytes(tuple(stored.shape)) for stored in new.values())
        require(self._device, packed + others, "the weights, the cache and what is computed")
        expand = self._expands(new, wide, packed + others)
        done = 0
        for name, stored in new.items():
            self._made[name] = self._loaded(stored, wide=expand and name in wide)
            done += stored.dtype.nbytes(tuple(stored.shape))
            if self._progress is not None:
                self._progress(done, packed)
        return {name: self._made[name] for name in named}

    def _expands(self, new: Mapping[str, Stored], wide: set[str], least: int) -> bool:
        if self._expand is not None:
            return self._expand
        more = sum(prod(s.shape) * self._wide.itemsize for name, s in new.items() if name in wide)
        return bool(least + more < SHARE * memory(self._device)[0])

    def _loaded(self, stored: Stored, *, wide: bool) -> Value:
        shape = tuple(stored.shape)
        if stored.dtype.name not in DECODERS or stored.dtype.name == "F32" or not shape:
            return torch.tensor(np.asarray(stored.numpy()), device=self._device)
        if wide and self._device.type == "cpu":  # the decoders of puna.quants are native
            return torch.tensor(stored.numpy()).to(self._wide)
        packed = Packed(self._bytes(stored.raw), stored.dtype, shape)
        if not wide:
            return packed
        out = torch.empty((prod(shape[:-1]), shape[-1]), dtype=self._wide, device=self._device)
        done = 0
        for tile in packed.tiles():
            out[done : done + len(tile)] = tile
            done += len(tile)
        return out.reshape(shape)

    def _bytes(self, raw: Any) -> Tensor:
        return torch.tensor(np.ascontiguousarray(raw).reshape(-1).view(np.uint8), device=self._device)


def _nbytes(value: Value) -> int:
    return value.nbytes if isinstance(value, Packed) else int(value.numel() * value.element_size())


def matrices(nodes: Iterable[Node]) -> set[str]:
    """Names of the weights that products read."""
    return {n.inputs[1].name for n in nodes if n.op in PRODUCTS and n.inputs[1].op == "weight"}
