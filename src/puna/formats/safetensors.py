"""Safetensors checkpoints: one file, or shards under an index, mapped; the writer is small. It knows no tensor names.

    file  := u64 size of header (little-endian), header, data
    header:= JSON {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__": {str: str}}
    index := JSON {"weight_map": {name: file name}}, in <stem>.safetensors.index.json

Offsets count from the begin of `data`; together the tensors cover `data` without hole or overlap.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from struct import Struct
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import DTYPES, DType, Stored
from puna.errors import FormatError
from puna.formats.mapped import MappedFile, MappedFiles, MappedTensor, tensor_bytes
from puna.formats.shard_index import MAX_HEADER, parse_json, read_index
from puna.whole import whole_file

_LENGTH = Struct("<Q")
MAX_DIMS = 32

_KNOWN: dict[str, DType] = {name: dtype for name, dtype in DTYPES.items() if not dtype.quantized}
_BY_NUMPY = {
    dtype.numpy: dtype for dtype in _KNOWN.values() if dtype.name not in ("BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0")
}


class Safetensors(MappedFiles):
    """An open safetensors checkpoint: `.tensors` by name; `.metadata` is the text kept beside them, of all files.

    Where files disagree about a metadata key, the first one's value stands. Usable as a context manager; what closing
    does is told in `puna.formats.mapped`.
    """

    def __init__(
        self, files: Sequence[MappedFile], tensors: Mapping[str, MappedTensor], metadata: Mapping[str, str]
    ) -> None:
        super().__init__(files)
        self.tensors: Mapping[str, MappedTensor] = MappingProxyType(dict(tensors))
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata))

    def __repr__(self) -> str:
        return f"Safetensors({len(self._files)} files, {len(self.tensors)} tensors)"


def open_safetensors(path: str | PathLike[str] | Sequence[str | PathLike[str]]) -> Safetensors:
    """Open a safetensors file, an index, a folder that has one of either, or a list of files as one checkpoint.

    In a folder an index goes before files. Of an index's shards, only the tensors it lists are there. FormatError names
    the file, and the tensor or shard that is wrong or missing.
    """
    if not isinstance(path, str | PathLike):
        return _open_all([Path(each) for each in path])
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    return _open_index(path) if path.name.endswith(".index.json") else _open_all([path])


def _in_folder(folder: Path) -> Path:
    for pattern in ("*.safetensors.index.json", "*.safetensors"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(each.name for each in found)
            raise FormatError(f"opening {folder.name}: which of {names}? name one file, or give the list of all")
    raise FormatError(f"opening {folder.name}: no *.safetensors and no *.safetensors.index.json in it")


def _open_all(paths: Sequence[Path]) -> Safetensors:
    tensors: dict[str, MappedTensor] = {}
    metadata: dict[str, str] = {}
    files = []
    with ExitStack() as opened:
        for path in paths:
            files.append(file := MappedFile(path))
            opened.callback(file.close)
            found, texts = _read_file(file)
            metadata = texts | metadata
            twice = tensors.keys() & found.keys()
            if twice:
                raise FormatError(f"reading {file.name}: tensor {min(twice)!r} is in another file too; one must go")
            tensors |= found
        opened.pop_all()
    return Safetensors(files, tensors, metadata)


def _open_index(path: Path) -> Safetensors:
    """Open the shards that an index names, with the tensors it lists."""
    where = read_index(path)
    metadata: dict[str, str] = {}
    by_shard: dict[str, dict[str, MappedTensor]] = {}
    files = []
    with ExitStack() as opened:
        for shard in sorted(set(where.values())):
            if not (path.parent / shard).is_file():
                raise FormatError(f"opening {path.name}: shard {shard!r} is missing; all shards must be in its folder")
            files.append(file := MappedFile(path.parent / shard))
            opened.callback(file.close)
            by_shard[shard], texts = _read_file(file)
            metadata = texts | metadata
        for name, shard in where.items():
            if name not in by_shard[shard]:
                raise FormatError(
                    f"opening {path.name}: tensor {name!r} is listed, but not in {shard!r}; fetch it again"
                )
        opened.pop_all()
    return Safetensors(files, {name: by_shard[shard][name] for name, shard in where.items()}, metadata)


def _read_file(file: MappedFile) -> tuple[dict[str, MappedTensor], dict[str, str]]:
    """Check a file's header; return its tensors and its text."""
    if file.size < _LENGTH.size:
        raise FormatError(f"reading {file.name}: {file.size} bytes are no safetensors file; fetch it again")
    (size,) = _LENGTH.unpack_from(file.data.data)
    if size > min(file.size - _LENGTH.size, MAX_HEADER):
        raise FormatError(
            f"reading {file.name}: at byte 0: a header of {size} bytes (most: {MAX_HEADER}) in a file of {file.size}; "
            "it is no safetensors file, or incomplete"
        )
    begin = _LENGTH.size + size
    header = parse_json(file.data[_LENGTH.size : begin].tobytes(), file.name)
    texts = header.pop("__metadata__", {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise FormatError(f"reading {file.name}: '__metadata__' is not an object of texts")
    tensors = {name: _read_tensor(file, name, entry, begin) for name, entry in header.items()}
    _check_cover(file, tensors.values(), begin)
    return tensors, texts


def _read_tensor(file: MappedFile, name: str, entry: Any, begin: int) -> MappedTensor:
    where = f"reading {file.name}: tensor {name!r}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where}: it has not just dtype, shape and data_offsets")
    dtype = _KNOWN.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise FormatError(f"{where}: dtype {entry['dtype']!r} is unknown; known: {', '.join(_KNOWN)}")
    shape, offsets = _naturals(entry["shape"], MAX_DIMS), _naturals(entry["data_offsets"], 2)
    if shape is None or offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(f"{where}: shape {entry['shape']!r} at {entry['data_offsets']!r} are no sizes and no range")
    if offsets[1] > file.size - begin:
        raise FormatError(f"{where}: bytes {offsets} of {file.size - begin}; the file is incomplete, fetch it again")
    try:
        nbytes = tensor_bytes(dtype, shape)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from error
    if nbytes != offsets[1] - offsets[0]:
        raise FormatError(
            f"{where}: {dtype} {shape} needs {nbytes} bytes, its range {offsets} has {offsets[1] - offsets[0]}"
        )
    return MappedTensor(file, name, shape, dtype, begin + offsets[0], nbytes)


def _naturals(value: Any, most: int) -> tuple[int, ...] | None:
    if isinstance(value, list) and len(value) <= most and all(type(each) is int and each >= 0 for each in value):
        return tuple(value)
    return None


def _check_cover(file: MappedFile, tensors: Iterable[MappedTensor], begin: int) -> None:
    """Refuse overlaps, holes and bytes that belong to no tensor."""
    end, before = begin, "the header"
    for tensor in sorted(tensors, key=lambda each: (each.offset, each.nbytes)):
        if tensor.offset != end:
            what = "overlap" if tensor.offset < end else f"leave a hole of {tensor.offset - end} bytes"
            raise FormatError(
                f"reading {file.name}: at byte {tensor.offset}: {before} and tensor {tensor.name!r} {what}"
            )
        end, before = tensor.offset + tensor.nbytes, f"tensor {tensor.name!r}"
    if end != file.size:
        raise FormatError(f"reading {file.name}: at byte {end}: {file.size - end} bytes follow the last tensor")


def write_safetensors(
    path: str | PathLike[str], tensors: Mapping[str, Stored | NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays or stored tensors as one safetensors file, which appears only when complete."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, tensor in tensors.items():
        dtype = _dtype_of(name, tensor)
        nbytes = tensor_bytes(dtype, tuple(tensor.shape))
        header[name] = {"dtype": dtype.name, "shape": list(tensor.shape), "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as file:
        file.write(_LENGTH.pack(len(text)) + text)
        for tensor in tensors.values():
            file.write(_little(tensor) if isinstance(tensor, np.ndarray) else tensor.raw.data)


def _dtype_of(name: str, tensor: Stored | NDArray[Any]) -> DType:
    dtype = _BY_NUMPY.get(tensor.dtype.newbyteorder("<")) if isinstance(tensor, np.ndarray) else tensor.dtype
    if dtype is None or dtype.name not in _KNOWN:
        raise FormatError(
            f"writing tensor {name!r}: safetensors have no dtype {tensor.dtype}; known: {', '.join(_KNOWN)}"
        )
    return dtype


def _little(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()
