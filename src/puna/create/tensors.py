"""Tensors on their way from a checkpoint to GGUF: renamed, perhaps transformed, in the type they will have.

Nothing is read until a tensor's bytes are asked for, and then a band of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import quants
from puna.arch.base import Transform
from puna.dtypes import F16, F32, DType, Stored
from puna.errors import ConversionError
from puna.formats.mapped import to_values

Array = NDArray[Any]
BAND = 1 << 24
"""Elements converted at once: 64 MB as float32."""


def permute_rope(array: Array, heads: int) -> Array:
    """Rows of each head from halves (i with i + D/2) to pairs (2i with 2i + 1)."""
    rows = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return rows.swapaxes(1, 2).reshape(array.shape)


TRANSFORMS: dict[str, Callable[[Array, int], Array]] = {
    "permute_rope": permute_rope,
    "plus_one": lambda array, _: array + array.dtype.type(1),
}
"""How each of an architecture's transforms is done."""

MOVES_ONLY = {"permute_rope"}
"""Transforms that move elements and so work on stored ones, whatever they mean."""


@dataclass(frozen=True)
class Converted:
    """A tensor as the output will hold it (a `puna.dtypes.Stored`)."""

    name: str
    source: Stored
    source_name: str
    dtype: DType
    transform: Transform | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's shape: no transform changes it."""
        return self.source.shape

    @property
    def raw(self) -> NDArray[np.uint8]:
        """All bytes at once; a view of the source where nothing changes."""
        if self._unchanged:
            return self.source.raw
        return np.concatenate(list(self.chunks()))

    def numpy(self) -> Array:
        """The values that the output's bytes stand for."""
        return to_values(self.raw, self.dtype, self.shape)

    @property
    def _unchanged(self) -> bool:
        return self.transform is None and self.dtype is self.source.dtype

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """The bytes of the output, a band of rows at a time."""
        if self._unchanged:
            yield self.source.raw
            return
        stored, dtype = self.source.raw, self.source.dtype
        if self.transform and self.transform.kind in MOVES_ONLY and not dtype.quantized:
            elements = stored.view(dtype.numpy).reshape(self.source.shape)
            moved = TRANSFORMS[self.transform.kind](elements, self.transform.argument)
            stored = np.ascontiguousarray(moved).reshape(-1).view(np.uint8)
        yield from self._bands(stored)

    def _bands(self, stored: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        rows, *rest = self.source.shape
        size = self.source.dtype.nbytes((1, *rest))
        step = max(1, BAND // max(1, prod(rest)))
        for start in range(0, rows, step):
            count = min(step, rows - start)
            part = stored[start * size : (start + count) * size]
            if self.dtype is self.source.dtype and (self.transform is None or self.transform.kind in MOVES_ONLY):
                yield part
                continue
            values = to_values(part, self.source.dtype, (count, *rest))
            if self.transform and self.transform.kind not in MOVES_ONLY:
                values = TRANSFORMS[self.transform.kind](values, self.transform.argument)
            yield self._encoded(values)

    def _encoded(self, values: Array) -> NDArray[np.uint8]:
        try:
            encoded = quants.quantize(values, self.dtype.name).reshape(-1)
        except ConversionError as error:
            raise ConversionError(f"converting '{self.source_name}': {error}") from error
        if self.dtype is F16 and (np.isinf(encoded.view("<f2")) & np.isfinite(values).reshape(-1)).any():
            most = np.abs(values[np.isfinite(values)]).max()
            raise ConversionError(f"converting '{self.source_name}': F16 cannot hold {most:g}; BF16 or F32 would work")
        return encoded


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
