"""Weights as a model of ONNX has them: codes where onnxruntime multiplies by them, else floats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from puna.backends.affine import TYPES
from puna.backends.base import Progress
from puna.backends.onnx.values import Codes, Weight, kept_bits
from puna.backends.onnx.writing import Writer
from puna.backends.stored import checked
from puna.dtypes import DType, Stored
from puna.graph.tensor import Tensor, concrete

Array = NDArray[np.generic]
Part = tuple[str, int, tuple[int, ...]]
"""Name, type of elements and shape of a stored array."""

HALVES = {"F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


def parts(name: str, dtype: DType, shape: tuple[int, ...], halves: bool) -> list[Part]:
    """The arrays that a weight is stored in; with `halves`, 16-bit floats stay that, else they become float32."""
    if dtype.name not in TYPES or len(shape) < 2:
        kind = TensorProto.INT32 if dtype.name == "I32" else TensorProto.FLOAT
        return [(name, HALVES.get(dtype.name, kind) if halves else kind, shape)]
    coded = TYPES[dtype.name]
    groups = (*shape[:-1], shape[-1] // coded.group)
    found: list[Part] = [
        (f"{name}.codes", TensorProto.UINT8, (*groups, coded.group * kept_bits(dtype) // 8)),
        (f"{name}.scales", TensorProto.FLOAT, groups),
    ]
    return found if coded.zero is not None else [*found, (f"{name}.biases", TensorProto.FLOAT, groups)]


def parts_of(node: Tensor, halves: bool) -> list[Part]:
    """Those of a weight of a graph."""
    return parts(node.name, node.dtype, concrete(node.shape, {}), halves)


def arrays(name: str, stored: Stored, halves: bool) -> Iterator[tuple[str, Array]]:
    """The same arrays, with what they hold; bfloat16 as numbers of 16 bits."""
    shape, kept = tuple(stored.shape), parts(name, stored.dtype, tuple(stored.shape), halves)
    if len(kept) > 1:
        codes, *others = TYPES[stored.dtype.name].read(_blocks(stored))
        if kept_bits(stored.dtype) == 4:
            codes = codes[:, 0::2] | codes[:, 1::2] << np.uint8(4)
        found: list[NDArray[np.generic]] = [codes, *others]
        yield from ((part, x.reshape(size)) for (part, _, size), x in zip(kept, found, strict=False))
    elif kept[0][1] in HALVES.values():
        yield name, np.asarray(stored.raw).view(np.float16 if stored.dtype.name == "F16" else np.uint16).reshape(shape)
    else:
        yield name, np.asarray(stored.numpy(), order="C")


def _blocks(stored: Stored) -> NDArray[np.uint8]:
    return np.ascontiguousarray(stored.raw).view(np.uint8).reshape(-1, stored.dtype.block_bytes)


def value(w: Writer, node: Tensor, halves: bool, taking: int) -> Weight:
    """How ops name a weight."""
    names = [name for name, _, _ in parts_of(node, halves)]
    if len(names) > 1:
        codes, scales, *biases = names
        return Codes(node.dtype, concrete(node.shape, {}), codes, scales, biases[0] if biases else None, taking)
    return w.cast(names[0], TensorProto.FLOAT) if halves and node.dtype.name in HALVES else names[0]


def nbytes(dtype: DType, shape: tuple[int, ...], halves: bool = False) -> int:
    """What the arrays of a weight take."""
    widths = {TensorProto.UINT8: 1, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2}
    kept = parts("", dtype, shape, halves)
    return sum(int(np.prod(size, dtype=np.int64)) * widths.get(kind, 4) for _, kind, size in kept)


class Weights:
    """Stored tensors by name, and the arrays of those that a graph has asked for."""

    def __init__(self, stored: Mapping[str, Stored], progress: Progress | None, beside: Weights | None = None) -> None:
        self._stored = stored
        self._progress = progress
        self._beside = beside
        self._made: dict[str, dict[str, Array]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes in memory so far."""
        return sum(array.nbytes for made in self._made.values() for array in made.values())

    def finish(self) -> None:
        """Nothing is under way: `take` has waited."""

    def needed(self, nodes: Iterable[Tensor]) -> int:
        """Bytes that `take` would add."""
        found = [self._stored[node.name] for node in nodes if node.name in self._stored and node.name not in self._made]
        return sum(nbytes(stored.dtype, tuple(stored.shape)) for stored in found)

    def take(self, nodes: Iterable[Tensor]) -> dict[str, Array]:
        """The arrays of a graph's weights; BackendError for one that was not loaded, or differs."""
        nodes = list(nodes)
        theirs = [node for node in nodes if self._beside is not None and node.name not in self._stored]
        found = self._beside.take(theirs) if self._beside is not None and theirs else {}
        own = [(node.name, checked(self._stored, node, "onnx")) for node in nodes if node not in theirs]
        total, done = sum(stored.dtype.nbytes(tuple(stored.shape)) for _, stored in own), 0
        for name, stored in own:
            if name not in self._made:
                self._made[name] = dict(arrays(name, stored, halves=False))
            found |= self._made[name]
            done += stored.dtype.nbytes(tuple(stored.shape))
            if self._progress is not None:
                self._progress(done, total)
        return found
