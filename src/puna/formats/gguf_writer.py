"""Writing GGUF files (version 3): metadata, tensor infos, then tensor data one after another, never two in memory.

The layout is drawn in `gguf`; how Python values become metadata is `encode_value`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from puna.dtypes import DTYPES, DType, Stored
from puna.errors import FormatError
from puna.formats.gguf_metadata import Metadata
from puna.formats.gguf_values import LENGTH, Encoded, encode_string, encode_value
from puna.formats.mapped import tensor_bytes
from puna.whole import whole_file

Chunk = bytes | bytearray | memoryview | np.ndarray[Any, Any]
Data = Chunk | Iterable[Chunk] | Callable[[], Chunk | Iterable[Chunk]]
Tensor = tuple[str, tuple[int, ...], DType | str, Data] | tuple[str, Stored] | Stored

MAX_NAME = 63  # ggml keeps tensor names in 64 bytes, the last of which is zero
MAX_KEY = 65535
MAX_DIMS = 4
"""What other readers take; the reader here is wider where that costs nothing."""

_HEAD = Struct("<4sIQQ")
_U32 = Struct("<I")
_PLACE = Struct("<IQ")
_BLOCK = 1 << 24


class _Entry(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: DType
    nbytes: int
    data: Data


def write_gguf(
    path: str | PathLike[str], metadata: Mapping[str, Any], tensors: Iterable[Tensor], *, alignment: int = 32
) -> None:
    """Write a GGUF file that appears under its name only when complete; on any error, or Ctrl-C, nothing is left.

    `metadata` maps keys to values as `encode_value` takes them; the `.metadata` of an open GGUF is copied exactly.
    `tensors` are `(name, row-major shape, dtype or its name, data)`, `(name, Stored)`, or a Stored that has a `.name`;
    `data` are bytes, an array, an iterable of these, or a function that returns one of them and is called when it is
    that tensor's turn. FormatError where a value has no place in a GGUF file or `data` are not the bytes that shape and
    dtype need.
    """
    with whole_file(path) as file:
        try:
            for chunk in gguf_chunks(metadata, tensors, alignment=alignment):
                file.write(chunk)
        except FormatError as error:
            raise FormatError(f"writing {Path(path).name}: {error}") from error


def reporting(tensors: Mapping[str, Stored], on_progress: Callable[[str, int, int], object]) -> list[Tensor]:
    """Tensors for `write_gguf`: when its turn comes, of each its name, the bytes so far and those in all are told."""
    total, done = sum(tensor.dtype.nbytes(tensor.shape) for tensor in tensors.values()), 0

    def make(name: str, tensor: Stored) -> Chunk:
        nonlocal done
        done += tensor.dtype.nbytes(tensor.shape)
        on_progress(name, done, total)
        return tensor.raw

    return [(name, tensor.shape, tensor.dtype, partial(make, name, tensor)) for name, tensor in tensors.items()]


def gguf_chunks(
    metadata: Mapping[str, Any], tensors: Iterable[Tensor], *, alignment: int = 32
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a GGUF file in order, as `write_gguf` writes them; for hashing and sending on the way."""
    if alignment < 1 or alignment & (alignment - 1):
        raise FormatError(f"alignment {alignment} is no power of two; 32 is usual")
    entries = [_entry(tensor) for tensor in tensors]
    head = b"".join(_header(_encoded(metadata, alignment), entries, alignment))
    yield head + bytes(-len(head) % alignment)
    for entry in entries:
        yield from _tensor_chunks(entry)
        yield bytes(-entry.nbytes % alignment)


class Layout(NamedTuple):
    """A file before its tensors' data: its first bytes, where each tensor's data begin, and how many bytes it has."""

    head: bytes
    places: dict[str, int]
    size: int


def lay_out(
    metadata: Mapping[str, Any], tensors: Iterable[tuple[str, tuple[int, ...], DType]], *, alignment: int = 32
) -> Layout:
    """Where everything goes in the file that `write_gguf` would write; bytes between tensors are zero."""
    entries = [_entry((*tensor, b"")) for tensor in tensors]
    head = b"".join(_header(_encoded(metadata, alignment), entries, alignment))
    head += bytes(-len(head) % alignment)
    places, end = {}, len(head)
    for entry in entries:
        places[entry.name] = end
        end += entry.nbytes + -entry.nbytes % alignment
    return Layout(head, places, end)


def _encoded(metadata: Mapping[str, Any], alignment: int) -> dict[str, Encoded]:
    """Every value as bytes, the alignment among them where it is not the usual one."""
    values = metadata.exact() if isinstance(metadata, Metadata) else metadata
    encoded = {}
    for key, value in values.items():
        try:
            encoded[key] = encode_value(value)
        except FormatError as error:
            raise FormatError(f"key {key!r}: {error}") from error
    wanted = encode_value(np.uint32(alignment))
    if encoded.get("general.alignment", wanted) != wanted:
        raise FormatError(f"key 'general.alignment' is not {alignment}; pass alignment= with the same value")
    if alignment != 32:
        encoded["general.alignment"] = wanted
    return encoded


def _header(metadata: Mapping[str, Encoded], entries: list[_Entry], alignment: int) -> Iterator[bytes]:
    yield _HEAD.pack(b"GGUF", 3, len(entries), len(metadata))
    for key, value in metadata.items():
        yield _name(key, MAX_KEY, "key")
        yield _U32.pack(value.type)
        yield value.data
    seen: set[str] = set()
    offset = 0
    for entry in entries:
        if entry.name in seen:
            raise FormatError(f"tensor {entry.name!r} is given twice; names must differ")
        seen.add(entry.name)
        yield _name(entry.name, MAX_NAME, "tensor name")
        yield _U32.pack(len(entry.shape))
        yield b"".join(LENGTH.pack(size) for size in reversed(entry.shape))
        yield _PLACE.pack(_ggml_id(entry), offset)
        offset += entry.nbytes + -entry.nbytes % alignment


def _name(text: str, most: int, what: str) -> bytes:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise FormatError(f"{what} {text!r} has no UTF-8 form") from error
    if not 0 < size <= most:
        raise FormatError(f"{what} {text[:80]!r} has {size} bytes; 1 to {most} can be written")
    return encode_string(text)


def _ggml_id(entry: _Entry) -> int:
    if entry.dtype.ggml_id is None:
        raise FormatError(f"tensor {entry.name!r}: GGUF has no type {entry.dtype}; F16, BF16, F32 or I32 may do")
    return entry.dtype.ggml_id


def _entry(tensor: Tensor) -> _Entry:
    """One given tensor with its size worked out; a Stored is read only when it is written."""
    if not isinstance(tensor, tuple):
        if not hasattr(tensor, "name"):
            raise FormatError(f"{type(tensor).__name__} of shape {tensor.shape} has no name; give (name, tensor)")
        tensor = (tensor.name, tensor)
    if len(tensor) == 2:
        name, stored = tensor
        tensor = (name, stored.shape, stored.dtype, lambda: stored.raw)
    name, shape, dtype, data = tensor
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise FormatError(f"tensor {name!r}: type {dtype!r} is unknown; known: {', '.join(DTYPES)}")
        dtype = DTYPES[dtype]
    shape = tuple(int(size) for size in shape)
    if len(shape) > MAX_DIMS or min(shape, default=0) < 0:
        raise FormatError(f"tensor {name!r} {shape}: GGUF holds up to {MAX_DIMS} dimensions")
    try:
        return _Entry(name, shape, dtype, tensor_bytes(dtype, shape), data)
    except FormatError as error:
        raise FormatError(f"tensor {name!r}: {error}") from error


def _tensor_chunks(entry: _Entry) -> Iterator[memoryview]:
    """The bytes of one tensor, exactly as many as its entry says."""
    data = entry.data() if callable(entry.data) else entry.data
    written = 0
    for piece in (data,) if isinstance(data, bytes | bytearray | memoryview | np.ndarray) else data:
        view = _bytes_of(piece)
        written += len(view)
        if written > entry.nbytes:
            break
        for start in range(0, len(view), _BLOCK):
            yield view[start : start + _BLOCK]
    if written != entry.nbytes:
        more = "at least " if written > entry.nbytes else ""
        raise FormatError(
            f"tensor {entry.name!r} {entry.shape} {entry.dtype} needs {entry.nbytes} bytes, {more}{written} came"
        )


def _bytes_of(piece: Chunk) -> memoryview:
    if isinstance(piece, np.ndarray):
        return np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
    return memoryview(piece).cast("B")
