"""Files mapped into memory, and tensors that lie in them; it knows element types, but no file format.

Closing drops the map. Arrays taken before stay valid: each keeps its map (and, before Python 3.13 on Unix, one file
descriptor) until it is freed. Taking a new array from a closed file is a ValueError, as with Python's own files.
"""

import mmap
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import prod
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import DType
from puna.errors import FormatError

Bytes = NDArray[np.uint8]

MAX_BYTES = 2**63 - 1  # what a NumPy array may span


class MappedFile:
    """One file's bytes, read-only and mapped; `name` is the file's name without its folder."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self._descriptor: int | None = None
        with _existing(self.path) as file:
            self._identity = _identity(file.fileno())
            self._written = os.fstat(file.fileno()).st_mtime_ns
            self.size = file.seek(0, 2)
            if not self.size:
                raise FormatError(f"reading {self.name}: the file is empty; fetch or write it again")
            options: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
            self._map: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **options)
        self.size = len(self._map)
        self._data: Bytes | None = np.frombuffer(self._map, np.uint8)

    @property
    def data(self) -> Bytes:
        """All bytes, 1-D and read-only; ValueError after `close`."""
        if self._data is None:
            raise ValueError(f"reading {self.name}: the file was closed; open it again")
        return self._data

    def read(self, start: int, stop: int) -> Bytes:
        """A copy of bytes start..stop, read from the file: that costs less than mapping pages to look at them once.

        FormatError where the file was cut or written to since it was opened.
        """
        out = np.empty(stop - start, np.uint8)
        descriptor = self._opened()
        if descriptor is None:
            out[:] = self.data[start:stop]
            return out
        view, at = out.data, start
        while view:
            count = os.preadv(descriptor, [view], at)
            if not count:
                raise FormatError(f"reading {self.name}: it ends at byte {at}, before {stop}; fetch or write it again")
            view, at = view[count:], at + count
        if os.fstat(descriptor).st_mtime_ns != self._written:
            raise FormatError(f"reading {self.name}: it is being written to; a file that nobody changes works")
        return out

    def require_whole(self) -> None:
        """FormatError where the file was cut since it was opened: looking at lost pages would end the process."""
        descriptor = self._opened()
        if descriptor is not None and (left := os.fstat(descriptor).st_size) < self.size:
            raise FormatError(f"reading {self.name}: it was cut from {self.size} bytes to {left}; fetch it again")

    def _opened(self) -> int | None:
        """A descriptor of the same file, opened when first needed; None where there is none to be had."""
        if self._descriptor is None and self._data is not None and hasattr(os, "preadv"):
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except OSError:
                return None
            if _identity(descriptor) != self._identity:  # it was replaced; the map still has the old one
                os.close(descriptor)
                return None
            self._descriptor = descriptor
        return self._descriptor

    def release(self, start: int, stop: int) -> None:
        """Give back the memory of bytes start..stop, and of their pages; they are read again when looked at again."""
        if self._map is not None and hasattr(self._map, "madvise"):
            begin = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, begin, min(stop, self.size) - begin)

    def close(self) -> None:
        """Drop the map, at once or when the last array taken from it is freed."""
        self._data = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._map is not None:
            with suppress(BufferError):  # arrays still look at it: it goes with the last of them
                self._map.close()
            self._map = None

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # bound: modules may be gone when Python ends
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            close(descriptor)


def _existing(path: Path) -> BinaryIO:
    """The file, opened; FormatError where there is none."""
    try:
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise FormatError(f"opening {path}: {error.strerror}; the path of a file of weights works") from error


def _identity(descriptor: int) -> tuple[int, int]:
    """What tells one file from another, whatever its name."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


class MappedFiles:
    """What an opened checkpoint shares with every other: the files under it, and closing them."""

    def __init__(self, files: Iterable[MappedFile]) -> None:
        self._files = tuple(files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files this was read from."""
        return tuple(file.path for file in self._files)

    def close(self) -> None:
        """Drop the maps; arrays taken before stay valid, new ones are a ValueError."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MappedTensor:
    """A tensor in a mapped file (a `puna.dtypes.Stored`); `offset` counts from the start of the file, in bytes."""

    __slots__ = ("_file", "dtype", "name", "nbytes", "offset", "shape")

    def __init__(
        self, file: MappedFile, name: str, shape: tuple[int, ...], dtype: DType, offset: int, nbytes: int
    ) -> None:
        self._file = file
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.offset = offset
        self.nbytes = nbytes

    @property
    def raw(self) -> Bytes:
        """The stored bytes: a read-only view of the map, 1-D; FormatError where the file was cut meanwhile."""
        self._file.require_whole()
        return self._file.data[self.offset : self.offset + self.nbytes]

    def numpy(self) -> NDArray[Any]:
        """The values in `shape`: float32 for float and block types, else integers; F32 and integers are views."""
        return to_values(self.raw, self.dtype, self.shape)

    def read(self, start: int, stop: int) -> Bytes:
        """A copy of some of the stored bytes, 1-D, for what is looked at once."""
        return self._file.read(self.offset + start, self.offset + stop)

    def release(self, start: int = 0, stop: int | None = None) -> None:
        """Give back the memory of these of its bytes; they are read again when looked at again."""
        self._file.release(self.offset + start, self.offset + (self.nbytes if stop is None else stop))

    def __repr__(self) -> str:
        return f"MappedTensor({self.name!r}, {self.shape}, {self.dtype})"


def to_values(raw: Bytes, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the values of stored bytes: float32 for float and block types, the integer (or bool) type otherwise.

    FormatError where `raw` is not the size that `dtype` and `shape` need.
    """
    if raw.size != dtype.nbytes(shape):
        raise FormatError(f"decoding {dtype}: {raw.size} bytes for shape {shape}, which needs {dtype.nbytes(shape)}")
    if dtype.quantized:
        from puna.quants import dequantize

        return dequantize(raw, dtype.name, shape)
    stored = raw.view(dtype.numpy) if dtype.name != "BOOL" else raw != 0
    return _TO_FLOAT.get(dtype.name, _unchanged)(stored).reshape(shape)


def _unchanged(stored: NDArray[Any]) -> NDArray[Any]:
    return stored


def _from_bf16(stored: NDArray[Any]) -> NDArray[np.float32]:
    wide = stored.astype("<u4")
    wide <<= 16
    return wide.view("<f4")


def _from_float(stored: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # F64 beyond float32 is inf; signalling NaNs are NaN
        return stored.astype(np.float32)


def _f8_e4m3_table() -> NDArray[np.float32]:
    """The 256 values of the "fn" variant: bias 7, subnormals, no infinities, NaN at 0x7F and 0xFF."""
    code = np.arange(128)
    exponent, fraction = code >> 3, code & 7
    value = np.where(exponent > 0, np.ldexp(8.0 + fraction, exponent - 10), np.ldexp(fraction, -9))
    value[127] = np.nan
    return np.concatenate([value, -value]).astype(np.float32)


_F8_E4M3 = _f8_e4m3_table()
_F8_E8M0 = np.append(np.ldexp(np.float32(1), np.arange(-127, 128)), np.float32(np.nan))  # exponents alone, bias 127
_F8_E5M2 = _from_float((np.arange(256, dtype="<u2") << 8).astype("<u2").view("<f2"))  # the upper byte of an F16

_TO_FLOAT: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "F64": _from_float,
    "F16": _from_float,
    "BF16": _from_bf16,
    "F8_E4M3": lambda stored: _F8_E4M3[stored],
    "F8_E5M2": lambda stored: _F8_E5M2[stored],
    "F8_E8M0": lambda stored: _F8_E8M0[stored],
}


def tensor_bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor; FormatError where rows are no whole blocks or no array could be so large."""
    if prod(max(size, 1) for size in shape) > MAX_BYTES // 8:
        raise FormatError(f"shape {shape} has more elements than any file")
    return dtype.nbytes(shape)
