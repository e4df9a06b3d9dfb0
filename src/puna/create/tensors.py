"""Tensors on their way from a checkpoint to GGUF: renamed, perhaps stacked or transformed, in the type they will have.

Nothing is read until a piece's bytes are asked for. How one source is cut and converted is `puna.create.parts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.arch.transform import Transform
from puna.create.parts import BAND, Bytes, Part, Piece, Probe, passes, release
from puna.create.transforms import shape_after
from puna.dtypes import F32, DType, Stored
from puna.errors import ConversionError
from puna.formats.mapped import MappedTensor, to_values

__all__ = ["BAND", "Bytes", "Constant", "Converted", "Piece", "Probe", "memory_of", "passes", "pieces", "release"]

Array = NDArray[Any]


def pieces(tensor: Stored, probe: Probe | None = None) -> Iterator[Piece]:
    """All bytes of any tensor in order, in pieces that are independent of each other.

    ConversionError where a value is not finite.
    """
    if isinstance(tensor, Converted):
        yield from tensor.pieces(probe)
    elif isinstance(tensor, MappedTensor):
        yield from Part(tensor, tensor.name, tensor.dtype, (), None, None).copied(tensor)
    else:
        yield Piece(0, tensor.dtype.nbytes(tensor.shape), lambda: tensor.raw)


def memory_of(tensor: Stored) -> int:
    """About how many bytes making a piece of it takes at most, besides what is mapped."""
    if isinstance(tensor, Converted):
        return max(Part(p, tensor.name, tensor.dtype, tensor.transforms, None, None).memory for p in tensor.parts)
    return 0 if isinstance(tensor, MappedTensor) else tensor.dtype.nbytes(tensor.shape)


@dataclass(frozen=True)
class Converted:
    """A tensor as the output will hold it (a `puna.dtypes.Stored`).

    It is made of one part, or of several that are stacked along a new first axis; `transforms` are done to each part.
    `importance` is (columns,) or (parts or experts, columns), as `quants.quantize` takes it; `why` says which rule
    chose the type.
    """

    name: str
    parts: tuple[Stored, ...]
    part_names: tuple[str, ...]
    dtype: DType
    transforms: tuple[Transform, ...] = ()
    stacked: bool = False
    importance: Array | None = None
    why: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """What the parts' shape becomes; ConversionError where parts differ, or a transform does not fit."""
        first = self.parts[0].shape
        for part, name in zip(self.parts, self.part_names, strict=True):
            if part.shape != first:
                raise ConversionError(
                    f"converting '{name}': its shape is {part.shape}, but '{self.part_names[0]}', beside which it is "
                    f"stacked, has {first}"
                )
        shape = shape_after(self.transforms, first, self.part_names[0])
        return (len(self.parts), *shape) if self.stacked else shape

    @property
    def source_name(self) -> str:
        """The source's name, or the first's and how many more there are."""
        more = len(self.parts) - 1
        return self.part_names[0] + (f" and {more} more" if more else "")

    @property
    def source_dtype(self) -> DType:
        """The type of what it is made of."""
        return self.parts[0].dtype

    @property
    def unchanged(self) -> bool:
        """Whether the bytes of the parts are those of the output."""
        return not self.transforms and self.dtype is self.source_dtype

    @property
    def raw(self) -> Bytes:
        """All bytes at once; a view of the source where nothing changes."""
        if self.unchanged and len(self.parts) == 1:
            return self.parts[0].raw
        out = np.empty(self.dtype.nbytes(self.shape), np.uint8)
        for piece in self.pieces():
            out[piece.start : piece.start + piece.nbytes] = piece.make()
        return out

    def numpy(self) -> Array:
        """The values that the output's bytes stand for."""
        return to_values(self.raw, self.dtype, self.shape)

    def chunks(self) -> Iterator[Bytes]:
        """The bytes of the output in order."""
        return (piece.make() for piece in self.pieces())

    def release(self) -> None:
        """Let go of all that was read."""
        for part in self.parts:
            release(part)

    def pieces(self, probe: Probe | None = None) -> Iterator[Piece]:
        """The bytes of the output; ConversionError where a value is not finite, or has no place in the type."""
        size = self.dtype.nbytes(self.shape) // len(self.parts)
        for i, (part, name) in enumerate(zip(self.parts, self.part_names, strict=True)):
            importance = self.importance
            if importance is not None and self.stacked and importance.ndim == 2:
                importance = importance[i]
            one = Part(part, name, self.dtype, self.transforms, importance, probe)
            for piece in one.pieces():
                yield replace(piece, start=i * size + piece.start)


@dataclass(frozen=True)
class Constant:
    """A small float32 tensor that follows from the configuration (a `puna.dtypes.Stored`)."""

    values: tuple[float, ...]
    dtype = F32

    @property
    def shape(self) -> tuple[int, ...]:
        """A vector."""
        return (len(self.values),)

    @property
    def raw(self) -> NDArray[np.uint8]:
        """Little-endian float32."""
        return np.asarray(self.values, "<f4").view(np.uint8)

    def numpy(self) -> Array:
        """float32."""
        return np.asarray(self.values, np.float32)
