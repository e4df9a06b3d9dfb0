"""GGUF files, versions 2 and 3: one file or a set of shards, mapped, nothing decoded before it is asked for.

    file   := "GGUF", u32 version, u64 tensors, u64 pairs, pair*, info*, padding, data     (little-endian throughout)
    info   := string name, u32 n_dims, u64 dims* (fastest first), u32 type, u64 offset     (from the begin of `data`)
    shard  := a file named <stem>-00001-of-00003.gguf whose metadata has split.no, split.count, split.tensors.count

`data` and every offset in it are multiples of `general.alignment` (32 where it is absent). What names mean is
`puna.arch`; what blocks mean is `puna.quants`.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from os import PathLike
from pathlib import Path
from struct import Struct
from types import MappingProxyType
from typing import NamedTuple

from puna.dtypes import BY_GGML_ID
from puna.errors import FormatError
from puna.formats.gguf_metadata import Cursor, Metadata, parse_metadata
from puna.formats.gguf_shards import SHARD, shard_name
from puna.formats.mapped import MappedFile, MappedFiles, MappedTensor, tensor_bytes

MAX_DIMS = 4
DEFAULT_ALIGNMENT = 32

_HEAD = Struct("<4sI")
_COUNTS = Struct("<QQ")
_U32 = Struct("<I")
_DIMS = [Struct(f"<{n}Q") for n in range(MAX_DIMS + 1)]
_PLACE = Struct("<IQ")
_SMALLEST_PAIR = 8 + 1 + 4 + 1
_SMALLEST_INFO = 8 + 1 + 4 + 4 + 8


class _Info(NamedTuple):
    """A tensor as the header has it, its shape turned row-major; `at` is the entry's byte in the file."""

    name: str
    shape: tuple[int, ...]
    number: int
    offset: int
    at: int


class _Part:
    """One file's header."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        cursor = Cursor(file)
        self.version = _read_version(cursor)
        n_tensors, n_pairs = cursor.unpack(_COUNTS, "the header")
        if n_tensors * _SMALLEST_INFO + n_pairs * _SMALLEST_PAIR > cursor.size - cursor.at:
            cursor.fail(f"{n_tensors} tensors and {n_pairs} metadata keys are more than {cursor.size} bytes can hold")
        self.metadata = parse_metadata(cursor, n_pairs)
        self.alignment = _read_alignment(file, self.metadata)
        infos = [_read_info(cursor, index) for index in range(n_tensors)]
        begin = cursor.at + -cursor.at % self.alignment
        self.tensors = [_place(cursor, info, begin, self.alignment) for info in infos]
        _refuse_overlaps(cursor, self.tensors)


class GGUF(MappedFiles):
    """An open GGUF checkpoint: `.metadata` by key and `.tensors` by name, in the order of the files.

    Of several shards, `.metadata` and `.version` are the first one's. Usable as a context manager; what closing does is
    told in `puna.formats.mapped`.
    """

    def __init__(self, parts: Sequence[_Part]) -> None:
        super().__init__(part.file for part in parts)
        first = parts[0]
        self.version: int = first.version
        self.alignment: int = first.alignment
        self.metadata: Metadata = first.metadata
        self.tensors: Mapping[str, MappedTensor] = MappingProxyType(_joined(parts))

    def __repr__(self) -> str:
        return f"GGUF({self._files[0].name!r}, {len(self.metadata)} keys, {len(self.tensors)} tensors)"


def open_gguf(path: str | PathLike[str] | Sequence[str | PathLike[str]]) -> GGUF:
    """Open a GGUF file; any of several shards opens them all, and so does a list of all of them in order.

    The whole header is checked here: FormatError names the byte, key, tensor or missing shard.
    """
    if not isinstance(path, str | PathLike | Sequence):
        raise FormatError(f"opening {path!r}: the path of a GGUF file works, or a list of its shards")
    paths = [Path(path)] if isinstance(path, str | PathLike) else [Path(each) for each in path]
    if not paths:
        raise FormatError("opening GGUF shards: the list is empty; at least one file is needed")
    with ExitStack() as opened:
        parts = [_open_part(paths[0], opened)]
        count = max(_split(parts[0], "count", 1), 1)
        if len(paths) == 1 and count > 1:
            named, paths = paths[0], _shard_paths(paths[0], count)
            if named != paths[0]:
                return open_gguf(paths)
        parts += [_open_part(each, opened) for each in paths[1:]]
        _check_split(parts, count)
        checkpoint = GGUF(parts)
        opened.pop_all()
    return checkpoint


def _open_part(path: Path, opened: ExitStack) -> _Part:
    file = MappedFile(path)
    opened.callback(file.close)
    return _Part(file)


def _read_version(cursor: Cursor) -> int:
    magic, version = cursor.unpack(_HEAD, "the header")
    cursor.at = 0
    if magic != b"GGUF":
        cursor.fail(f"this is no GGUF file: it begins with {magic!r}", "a file that begins with b'GGUF' is needed")
    if version in (2, 3):
        cursor.at = _HEAD.size
        return int(version)
    cursor.at = 4
    if version == 1:
        cursor.fail("GGUF version 1 (of August 2023) is not read", "convert the original checkpoint again")
    if version & 0xFFFF == 0:
        cursor.fail("this is a big-endian GGUF file, which is not read", "a little-endian one works")
    cursor.fail(f"GGUF version {version} is unknown", "versions 2 and 3 are read")


def _read_alignment(file: MappedFile, metadata: Metadata) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise FormatError(
            f"reading {file.name}: key 'general.alignment': {alignment!r} is no power of two; 32 is usual"
        )
    return alignment


def _read_info(cursor: Cursor, index: int) -> _Info:
    at = cursor.at
    name = cursor.name(f"the name of tensor {index}")
    (n_dims,) = cursor.unpack(_U32, f"the dimensions of tensor {name!r}")
    if n_dims > MAX_DIMS:
        cursor.at = at
        cursor.fail(f"tensor {name!r} has {n_dims} dimensions, more than {MAX_DIMS}")
    dims = cursor.unpack(_DIMS[n_dims], f"the shape of tensor {name!r}")
    number, offset = cursor.unpack(_PLACE, f"the type of tensor {name!r}")
    return _Info(name, dims[::-1], number, offset, at)


def _place(cursor: Cursor, info: _Info, begin: int, alignment: int) -> MappedTensor:
    """Turn a header entry into a tensor whose bytes are in the file; `begin` is where tensor data begin."""
    cursor.at = info.at
    dtype = BY_GGML_ID.get(info.number)
    if dtype is None:
        cursor.fail(f"tensor {info.name!r} has the unknown type {info.number}", "a newer Puna may know it")
    try:
        nbytes = tensor_bytes(dtype, info.shape)
    except FormatError as error:
        cursor.fail(f"tensor {info.name!r}: {error}")
    if info.offset % alignment:
        cursor.fail(f"tensor {info.name!r} lies at offset {info.offset}, no multiple of the alignment {alignment}")
    if nbytes > cursor.size - begin - info.offset:
        cursor.fail(
            f"tensor {info.name!r} {info.shape} {dtype} has bytes {begin + info.offset} to "
            f"{begin + info.offset + nbytes}, past the end of the file at byte {cursor.size}"
        )
    return MappedTensor(cursor.file, info.name, info.shape, dtype, begin + info.offset, nbytes)


def _refuse_overlaps(cursor: Cursor, tensors: Sequence[MappedTensor]) -> None:
    ordered = sorted((tensor for tensor in tensors if tensor.nbytes), key=lambda tensor: tensor.offset)
    for one, other in pairwise(ordered):
        if one.offset + one.nbytes > other.offset:
            cursor.at = other.offset
            cursor.fail(f"tensors {one.name!r} and {other.name!r} overlap")


def _joined(parts: Sequence[_Part]) -> dict[str, MappedTensor]:
    tensors: dict[str, MappedTensor] = {}
    for part in parts:
        for tensor in part.tensors:
            if tensor.name in tensors:
                raise FormatError(f"reading {part.file.name}: tensor {tensor.name!r} is there twice; one must go")
            tensors[tensor.name] = tensor
    return tensors


def _split(part: _Part, field: str, default: int) -> int:
    value = part.metadata.get(f"split.{field}", default)
    if type(value) is not int:
        raise FormatError(f"reading {part.file.name}: key 'split.{field}': {value!r} is not an integer")
    return value


def _shard_paths(shard: Path, count: int) -> list[Path]:
    """Return the paths of all shards, found by the name of one."""
    match = SHARD.fullmatch(shard.name)
    if not match or int(match[3]) != count:
        raise FormatError(
            f"opening {shard.name}: it is one of {count} shards, and its name is not like "
            f"model-00001-of-{count:05d}.gguf; name it so, or pass the list of all shards"
        )
    paths = [shard.with_name(shard_name(match[1], number, count)) for number in range(1, count + 1)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise FormatError(
            f"opening {shard.name}: missing {', '.join(missing)}; all {count} shards must be in one folder"
        )
    return paths


def _check_split(parts: Sequence[_Part], count: int) -> None:
    """Refuse files that are not the shards of one checkpoint, in order."""
    if len(parts) != count:
        raise FormatError(f"opening {parts[0].file.name}: {len(parts)} files were given, it says {count} shards")
    for number, part in enumerate(parts):
        if _split(part, "count", 1) not in (count, 0) or _split(part, "no", 0) != number:
            raise FormatError(
                f"opening {part.file.name}: it says shard {_split(part, 'no', 0) + 1} of {_split(part, 'count', 1)}, "
                f"where {number + 1} of {count} belongs; give the shards of one checkpoint in order"
            )
    found = sum(len(part.tensors) for part in parts)
    wanted = _split(parts[0], "tensors.count", found)
    if found != wanted:
        raise FormatError(f"opening {parts[0].file.name}: {found} tensors, it says {wanted}; a shard is incomplete")
