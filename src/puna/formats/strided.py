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
    where = f"reading {file.name}: tensor {name!r}"
    dtype, itemsize, storage = view.type.dtype, view.type.itemsize, view.storage
    if dtype is None:
        raise FormatError(f"{where}: Puna has no torch.{view.type.name}; save it as another type")
    try:
        nbytes = tensor_bytes(dtype, view.shape)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from error
    last = sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    used = (view.first + (last + 1 if prod(view.shape) else 0)) * itemsize
    if used > storage.nbytes:
        raise FormatError(
            f"{where}: shape {view.shape}, strides {view.strides} from element {view.first} reach to byte {used} "
            f"of a storage of {storage.nbytes}"
        )
    if nbytes > max(storage.nbytes, file.size, MAX_REPEATED):
        raise FormatError(f"{where}: {nbytes} bytes that repeat {storage.nbytes}; save its contiguous() copy")
    offset = begin + storage.begin + view.first * itemsize
    if _row_major(view) and not (big and itemsize > 1):
        return MappedTensor(file, name, view.shape, dtype, offset, nbytes)
    strides = tuple(stride * itemsize for stride in view.strides)
    return StridedTensor(file, name, view.shape, dtype, offset, strides, big=big)


def _row_major(view: View) -> bool:
    step = 1
    for size, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if size > 1 and stride != step:
            return not prod(view.shape)
        step *= size
    return True
