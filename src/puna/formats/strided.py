"""Tensors that are views of a storage in a mapped file, with strides; row-major ones are plain mapped tensors.

It knows neither pickles nor file layouts.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import BOOL, DType
from puna.errors import FormatError
from puna.formats.mapped import Bytes, MappedFile, MappedTensor, tensor_bytes, to_values
from puna.formats.torch_values import View

MAX_REPEATED = 2**24  # bytes of a tensor that shows elements of a small file more than once


class StridedTensor:
    """A tensor whose elements do not lie in row-major order, or are big-endian (a `puna.dtypes.Stored`).

    `strides` are bytes. Nothing is copied before `raw` or `numpy` asks.
    """

    __slots__ = ("_big", "_file", "dtype", "name", "nbytes", "offset", "shape", "strides")

    def __init__(
        self, file: MappedFile, name: str, shape: tuple[int, ...], dtype: DType, offset: int, strides: tuple[int, ...],
        *, big: bool,
    ) -> None:  # fmt: skip
        self._file = file
        self._big = big
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.offset = offset
        self.strides = strides
        self.nbytes = tensor_bytes(dtype, shape)

    @property
    def raw(self) -> Bytes:
        """The elements in row-major order, little-endian: a copy, 1-D."""
        carrier = np.dtype("u1") if self.dtype is BOOL else self.dtype.numpy
        stored = carrier.newbyteorder(">") if self._big else carrier
        array: NDArray[Any] = np.ndarray(self.shape, stored, self._file.data.data, self.offset, self.strides)
        return array.astype(carrier, order="C").reshape(-1).view(np.uint8)

    def numpy(self) -> NDArray[Any]:
        """The values in `shape`: float32 for floats, else the integer, bool or complex type."""
        return to_values(self.raw, self.dtype, self.shape)

    def __repr__(self) -> str:
        return f"StridedTensor({self.name!r}, {self.shape}, {self.dtype})"


def to_stored(file: MappedFile, name: str, view: View, begin: int, *, big: bool) -> MappedTensor | StridedTensor:
    """Return a view as a tensor of `file`, where its storage begins at byte `begin`.

    FormatError for an unknown type, and for elements outside of the storage. Only tensors that are not contiguous, or
    big-endian, will be copied when read.
    """
    try:
        dtype, nbytes = _check(file, view)
    except FormatError as error:
        raise FormatError(f"reading {file.name}: tensor {name!r}: {error}") from error
    offset = begin + view.storage.begin + view.first * view.type.itemsize
    if _row_major(view) and not (big and view.type.itemsize > 1):
        return MappedTensor(file, name, view.shape, dtype, offset, nbytes)
    strides = tuple(stride * view.type.itemsize for stride in view.strides)
    return StridedTensor(file, name, view.shape, dtype, offset, strides, big=big)


def _check(file: MappedFile, view: View) -> tuple[DType, int]:
    """The type of a view and its bytes when laid out in rows; FormatError where it is not inside of its storage."""
    dtype, there = view.type.dtype, view.storage.nbytes
    if dtype is None:
        raise FormatError(f"Puna has no torch.{view.type.name}; save it as another type")
    nbytes = tensor_bytes(dtype, view.shape)
    last = sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    used = (view.first + (last + 1 if prod(view.shape) else 0)) * view.type.itemsize
    if used > there:
        raise FormatError(
            f"shape {view.shape}, strides {view.strides} from element {view.first} reach to byte {used} of a storage "
            f"of {there}"
        )
    if nbytes > max(there, file.size, MAX_REPEATED):
        raise FormatError(f"{nbytes} bytes that repeat {there}; save its contiguous() copy")
    return dtype, nbytes


def _row_major(view: View) -> bool:
    step = 1
    for size, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if size > 1 and stride != step:
            return not prod(view.shape)
        step *= size
    return True
