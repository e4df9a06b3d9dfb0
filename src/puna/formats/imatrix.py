"""Importance matrices in llama.cpp's two forms: how much each input column of a weight matters. No model is known here.

gguf   := a GGUF file; general.type = "imatrix", imatrix.datasets (strings), imatrix.chunk_count, imatrix.chunk_size;
          for each weight F32 `<name>.in_sum2` (experts or 1, columns), sums of squares of the inputs over tokens,
          and F32 `<name>.counts` (experts or 1, 1), those tokens           (also `<name>.in_sum`, not used here)
dat    := i32 entries, entry*, [i32 chunks, string dataset]                 (the older form; little-endian)
entry  := string name, i32 chunks, i32 n, f32 value[n]          (mean square times chunks; experts joined to one row)
string := i32 length, byte[length]
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from puna.errors import FormatError
from puna.formats.gguf import GGUF, open_gguf
from puna.formats.gguf_metadata import Cursor
from puna.formats.gguf_values import Typed
from puna.formats.gguf_writer import write_gguf
from puna.formats.mapped import MappedFile, MappedTensor
from puna.whole import whole_file

CHUNK_SIZE = 512
"""Tokens of a chunk where a file does not say: llama.cpp's default. Of the older form no file says it."""

_I32 = Struct("<i")
_ENTRY = Struct("<ii")
_LARGEST = 2**31 - 1

Sums = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Imatrix:
    """An importance matrix as it adds up: for each weight the sums of squares of its inputs, and over how many tokens.

    `sums`: name -> (experts or 1, columns); `counts`: name -> (experts or 1,). Of the older form, and of stacked
    matrices without experts, all matrices lie in one row. `chunks` of `chunk_size` tokens were read from `datasets`.
    """

    sums: Mapping[str, Sums]
    counts: Mapping[str, Counts]
    chunks: int = 0
    chunk_size: int = CHUNK_SIZE
    datasets: tuple[str, ...] = ()

    @cached_property
    def values(self) -> Mapping[str, Sums]:
        """Mean squares: name -> (columns,), or (experts, columns); 1 for an expert that saw no token, as llama.cpp has.

        Each is computed when it is asked for; FormatError where it is not finite or negative.
        """
        return _Means(self)

    def importance(self, name: str, shape: tuple[int, ...]) -> Sums | None:
        """The mean squares that fit a weight of row-major `shape`: (columns,) or (experts, columns); None without them.

        FormatError where they were measured on a weight of another shape.
        """
        if name not in self.sums:
            return None
        means, columns = self.values[name], shape[-1]
        stacked = shape[0] if len(shape) > 2 else 1
        if means.size != stacked * columns:
            raise FormatError(
                f"imatrix: {name!r} has {means.size} columns, a weight of shape {shape} needs {stacked * columns}; "
                "the matrix of the same model would work"
            )
        return means.reshape(stacked, columns) if stacked > 1 else means.reshape(columns)

    def check_model(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """FormatError where it is of another model than that with tensors of these names and row-major `shapes`.

        Only matrices of blocks have to be there: what others are called differs between llama.cpp's versions.
        """
        if unknown := [name for name in self.sums if name.startswith("blk.") and name not in shapes]:
            raise FormatError(
                f"imatrix: {unknown[0]!r} is in the importance matrix and not in the model, which has "
                f"{like(unknown[0], shapes)!r}; the matrix of the same model would work"
            )
        for name in self.sums:
            if name in shapes:
                self.importance(name, shapes[name])


class _Means(Mapping[str, Sums]):
    def __init__(self, matrix: Imatrix) -> None:
        self._matrix = matrix

    def __len__(self) -> int:
        return len(self._matrix.sums)

    def __iter__(self) -> Iterator[str]:
        return iter(self._matrix.sums)

    def __contains__(self, name: object) -> bool:
        return name in self._matrix.sums

    def __getitem__(self, name: str) -> Sums:
        sums, counts = self._matrix.sums[name], self._matrix.counts[name].astype(np.float32)[:, None]
        means = np.divide(sums, counts, out=np.ones(sums.shape, np.float32), where=counts > 0)
        if not (np.isfinite(means).all() and (means >= 0).all()):
            raise FormatError(f"imatrix: {name!r} has values that are negative or not finite; compute it again")
        return means if len(means) > 1 else means[0]


def open_imatrix(path: str | PathLike[str], chunk_size: int = CHUNK_SIZE) -> Imatrix:
    """Open an importance matrix of either form, told apart by content; FormatError names the byte, key or tensor.

    The older form counts chunks and does not say how many tokens they have: `chunk_size`. The GGUF form does say.
    """
    file = MappedFile(path)
    if file.data[:4].tobytes() == b"GGUF":
        file.close()
        return _from_gguf(open_gguf(path), Path(path).name)
    return _from_dat(Cursor(file), chunk_size)


def write_imatrix(path: str | PathLike[str], matrix: Imatrix) -> None:
    """Write an importance matrix that appears under its name only when complete: the older form for .dat and .imatrix.

    FormatError where it is empty, or does not fit the form.
    """
    if not matrix.sums:
        raise FormatError(f"writing {Path(path).name}: the importance matrix is empty; at least one weight is needed")
    if Path(path).suffix in (".dat", ".imatrix"):
        with whole_file(path) as file:
            _write_dat(file, matrix)
    else:
        write_gguf(path, *_to_gguf(matrix))


def merge_imatrices(matrices: Sequence[Imatrix]) -> Imatrix:
    """Add importance matrices of one model up, as if all their texts had been read in one go.

    FormatError where they disagree about a weight's size, or there are none.
    """
    if not matrices:
        raise FormatError("merging importance matrices: there are none; at least one is needed")
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, Counts] = {}
    for matrix in matrices:
        for name, more in matrix.sums.items():
            _add(sums, counts, name, more, matrix.counts[name])
    size = matrices[0].chunk_size
    return Imatrix(
        {name: total.astype(np.float32) for name, total in sums.items()},
        counts,
        chunks=sum(matrix.chunks * matrix.chunk_size for matrix in matrices) // size,
        chunk_size=size,
        datasets=tuple(dict.fromkeys(text for matrix in matrices for text in matrix.datasets)),
    )


def _add(
    sums: dict[str, NDArray[np.float64]], counts: dict[str, Counts], name: str, more: NDArray[Any], tokens: Counts
) -> None:
    """One weight's sums and counts onto the totals; one count may stand for several matrices, as in the older form."""
    if name not in sums:
        sums[name], counts[name] = more.astype(np.float64), tokens
        return
    rows = max(len(tokens), len(counts[name]))
    if more.size != sums[name].size or {len(tokens), len(counts[name])} - {1, rows}:
        raise FormatError(
            f"merging importance matrices: {name!r} is {more.shape} in one and {sums[name].shape} in another; "
            "matrices of one model would work"
        )
    sums[name] = sums[name].reshape(rows, -1) + more.reshape(rows, -1)
    counts[name] = counts[name] + tokens


def like(name: str, names: Iterable[str]) -> str:
    """The one of `names` that says most to who knows `name`: of the same part, else of a block, else any."""
    part = name.split(".")[2:]
    return max(names, key=lambda each: (each.split(".")[2:] == part, each.startswith("blk.")), default="nothing")


# ---- the GGUF form --------------------------------------------------------------------------------------------------


def _from_gguf(file: GGUF, name: str) -> Imatrix:
    kind = file.metadata.get("general.type")
    stems = [t.removesuffix(".in_sum2") for t in file.tensors if t.endswith(".in_sum2")]
    if kind != "imatrix" or not stems:
        raise FormatError(
            f"reading {name}: it is no importance matrix: general.type is {kind!r}, "
            f"{len(stems)} tensors end in .in_sum2; `puna imatrix` makes one"
        )
    sums, counts = {}, {}
    for stem in stems:
        sums[stem], counts[stem] = _entry(file, stem, name)
    chunks, size = (_number(file, key, name) for key in ("chunk_count", "chunk_size"))
    datasets = file.metadata.get("imatrix.datasets", ())
    texts = tuple(map(str, datasets)) if isinstance(datasets, list | tuple) else ()
    return Imatrix(sums, counts, chunks, size or CHUNK_SIZE, texts)


def _number(file: GGUF, key: str, name: str) -> int:
    value = file.metadata.get(f"imatrix.{key}", 0)
    if type(value) is not int or value < 0:
        raise FormatError(f"reading {name}: key 'imatrix.{key}': {value!r} is not a count")
    return value


def _entry(file: GGUF, stem: str, name: str) -> tuple[Sums, Counts]:
    """One weight's sums (a view of the file) and counts."""

    def tensor(ending: str) -> MappedTensor:
        found = file.tensors.get(f"{stem}.{ending}")
        if found is None or found.dtype.name != "F32":
            raise FormatError(f"reading {name}: tensor '{stem}.{ending}' is {found and found.dtype}; F32 is needed")
        return found

    sums, raw = tensor("in_sum2"), tensor("counts").numpy().reshape(-1)
    rows = sums.numpy().reshape(-1, sums.shape[-1] if sums.shape else 1)
    if not np.isfinite(raw).all() or (raw < 0).any() or (raw > 2.0**53).any():
        raise FormatError(f"reading {name}: tensor '{stem}.counts' holds no counts of tokens")
    if not raw.size or not rows.size or rows.size % raw.size:
        raise FormatError(
            f"reading {name}: '{stem}' has {rows.size} sums for {raw.size} counts; each count needs as many sums"
        )
    return rows.reshape(raw.size, -1), np.rint(raw).astype(np.int64)


def _to_gguf(matrix: Imatrix) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], str, NDArray[Any]]]]:
    metadata = {
        "general.type": "imatrix",
        "imatrix.datasets": Typed(list(matrix.datasets), "ARRAY[STRING]"),
        "imatrix.chunk_count": np.uint32(matrix.chunks),
        "imatrix.chunk_size": np.uint32(matrix.chunk_size),
    }
    tensors: list[tuple[str, tuple[int, ...], str, NDArray[Any]]] = []
    for name in sorted(matrix.sums):
        sums, counts = matrix.sums[name], matrix.counts[name].astype("<f4")[:, None]
        tensors.append((f"{name}.in_sum2", sums.shape, "F32", sums.astype("<f4", copy=False)))
        tensors.append((f"{name}.counts", counts.shape, "F32", counts))
    return metadata, tensors


# ---- the older form -------------------------------------------------------------------------------------------------


def _from_dat(cursor: Cursor, chunk_size: int) -> Imatrix:
    (n_entries,) = cursor.unpack(_I32, "the number of entries")
    if not 0 < n_entries <= cursor.size // (3 * _I32.size):
        cursor.fail(
            f"{n_entries} entries in {cursor.size} bytes: this is no importance matrix", "a .dat or .gguf works"
        )
    sums: dict[str, Sums] = {}
    counts: dict[str, Counts] = {}
    for index in range(n_entries):
        at, name = cursor.at, _string(cursor, f"the name of entry {index}")
        if name in sums:
            cursor.at = at
            cursor.fail(f"entry {name!r} is there twice")
        chunks, size = cursor.unpack(_ENTRY, f"the sizes of entry {name!r}")
        if size < 1:
            cursor.fail(f"entry {name!r} has {size} values")
        begin = cursor.skip(4 * size, f"entry {name!r}")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused when it is asked for
            sums[name] = (cursor.data[begin : cursor.at].view("<f4") * np.float32(chunk_size))[None]
        counts[name] = np.array([max(chunks, 1) * chunk_size], np.int64)
    chunks, dataset = 0, ""
    if cursor.at < cursor.size:
        (chunks,) = cursor.unpack(_I32, "the number of chunks")
        dataset = _string(cursor, "the name of the text") if cursor.at < cursor.size else ""
    return Imatrix(sums, counts, max(chunks, 0), chunk_size, (dataset,) if dataset else ())


def _string(cursor: Cursor, what: str) -> str:
    (length,) = cursor.unpack(_I32, f"the length of {what}")
    if length < 0:
        cursor.fail(f"{what} has the length {length}")
    begin = cursor.skip(length, what)
    try:
        return cursor.data[begin : cursor.at].tobytes().decode()
    except UnicodeDecodeError:
        cursor.fail(f"{what} is not UTF-8")


def _write_dat(file: BinaryIO, matrix: Imatrix) -> None:
    """Experts without tokens are 1; weights without any are left out."""
    size = matrix.chunk_size or CHUNK_SIZE
    kept = [name for name in sorted(matrix.sums) if matrix.counts[name].any()]
    file.write(_I32.pack(len(kept)))
    for name in kept:
        sums, counts = matrix.sums[name], matrix.counts[name].astype(np.float64)[:, None]
        chunks = -(-int(counts.max()) // size)
        values = np.where(counts > 0, sums * (chunks / np.maximum(counts, 1)), chunks).astype("<f4")
        if max(chunks, values.size) > _LARGEST:
            raise FormatError(f"writing {name!r}: {values.size} values do not fit the older form; .gguf works")
        _write_string(file, name)
        file.write(_ENTRY.pack(chunks, values.size) + values.tobytes())
    file.write(_I32.pack(min(matrix.chunks, _LARGEST)))
    _write_string(file, matrix.datasets[-1] if matrix.datasets else "")


def _write_string(file: BinaryIO, text: str) -> None:
    data = text.encode()
    file.write(_I32.pack(len(data)) + data)
