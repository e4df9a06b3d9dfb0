"""The two containers of torch.save: what was saved, and where in the file its storages lie. It knows no tensor names.

    zip (torch 1.6 and later), entries stored:  <top>/data.pkl  <top>/data/<key>...  [<top>/byteorder: "little" | "big"]
    legacy := pickle of 0x1950a86a20f9469cfc6c, of 1001, of {system}, of the object, of [key...], storages
    storage:= u64 elements (little-endian), the elements; in the order of the keys

Storages of legacy files are little-endian whatever the system was, and begin at any byte.
"""

import struct
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from puna.errors import FormatError
from puna.formats.mapped import MappedFile
from puna.formats.torch_values import NAMES, Storages
from puna.formats.unpickle import MAX_PICKLE, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_COUNT = struct.Struct("<Q")
_LOCAL = struct.Struct("<4s22xHH")  # of a zip entry: "PK\3\4", ..., lengths of name and extra field
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file holds: the object, the bytes its pickle has, and at which byte each storage begins."""

    value: Any
    pickled: int
    begins: dict[str, int]
    big: bool


def read_saved(file: MappedFile) -> Saved:
    """Read the pickles of a file, and check that the storages they name are inside of it; FormatError if not."""
    head = file.data[:512].tobytes()
    for found, read in ((head.startswith(b"PK"), _read_zip), (head.startswith(b"\x80"), _read_legacy)):
        if found:
            try:
                return read(file)
            except FormatError as error:
                raise FormatError(f"reading {file.name}: {error}") from error
    if head[257:262] == b"ustar":
        what = "it is a tar archive of torch before 0.1.10; load and save it with a later torch"
    elif head.startswith(b"version https://git-lfs"):
        what = "it is a Git LFS pointer, not the file; `git lfs pull` fetches it"
    else:
        what = f"it begins with {head[:8]!r}; torch.save writes zip archives, or pickles of protocol 2 or later"
    raise FormatError(f"reading {file.name}: {what}")


def _read_zip(file: MappedFile) -> Saved:
    entries = _entries(file)
    top = _top_folder(entries)
    big = _is_big_endian(file, entries, f"{top}byteorder")
    pickled = _contents(file, entries, f"{top}data.pkl", MAX_PICKLE)
    storages = Storages()
    try:
        value, _ = unpickle(pickled, NAMES, storages.find)
    except FormatError as error:
        raise FormatError(f"{top}data.pkl: {error}") from error
    begins = {}
    for key, (nbytes, _) in storages.sizes.items():
        name = f"{top}data/{key}"
        begins[key], there = _range(file, entries, name)
        if there != nbytes:
            raise FormatError(f"storage {name!r} has {there} bytes, its tensors say {nbytes}; fetch the file again")
    return Saved(value, len(pickled), begins, big)


def _top_folder(entries: Collection[str]) -> str:
    """What the names of all entries begin with: a folder with its slash, or nothing."""
    tops = [name[: -len("data.pkl")] for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    tops = [top for top in tops if top.count("/") <= 1]
    if len(tops) != 1:
        raise FormatError(f"the zip archive has {len(tops)} data.pkl in its top folders; torch.save writes one")
    if f"{tops[0]}constants.pkl" in entries:
        raise FormatError("it is a TorchScript program (torch.jit.save); save the state_dict() of the loaded module")
    return tops[0]


def _is_big_endian(file: MappedFile, entries: dict[str, zipfile.ZipInfo], name: str) -> bool:
    order = _contents(file, entries, name, 16).tobytes().decode("latin-1") if name in entries else "little"
    if order not in ("little", "big"):
        raise FormatError(f"byteorder is {order!r}; little and big are known")
    return order == "big"


def _entries(file: MappedFile) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file.path) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OverflowError, OSError) as error:
        raise FormatError(f"the zip archive is broken or cut: {error}; fetch it again") from error
    entries = {entry.filename: entry for entry in found}
    if len(entries) != len(found):
        raise FormatError("the zip archive has two entries of one name")
    return entries


def _range(file: MappedFile, entries: dict[str, zipfile.ZipInfo], name: str) -> tuple[int, int]:
    """First byte and size of a stored entry, which lies in the file."""
    entry = entries.get(name)
    if entry is None:
        raise FormatError(f"the zip archive has no {name!r}; it is incomplete, fetch it again")
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
        raise FormatError(f"{name!r} is compressed or encrypted; torch.save stores entries plainly, as `zip -0` does")
    at = entry.header_offset
    if not 0 <= at <= file.size - _LOCAL.size:
        raise FormatError(f"{name!r} is at byte {at} of {file.size}; fetch the file again")
    magic, name_size, extra_size = _LOCAL.unpack_from(file.data.data, at)
    begin = at + _LOCAL.size + name_size + extra_size
    if magic != b"PK\3\4" or entry.file_size != entry.compress_size or begin + entry.file_size > file.size:
        raise FormatError(f"{name!r} at byte {at} is not inside of the file; fetch it again")
    return begin, entry.file_size


def _contents(file: MappedFile, entries: dict[str, zipfile.ZipInfo], name: str, most: int) -> memoryview:
    begin, nbytes = _range(file, entries, name)
    if nbytes > most:
        raise FormatError(f"{name!r} has {nbytes} bytes, of at most {most}")
    return file.data.data[begin : begin + nbytes]


def _read_legacy(file: MappedFile) -> Saved:
    data = file.data.data
    magic, at = unpickle(data, NAMES)
    if magic != _MAGIC:
        raise FormatError("it is a pickle, but none of torch.save; load it where it is trusted and use torch.save")
    version, at = unpickle(data, NAMES, at=at)
    if version != _VERSION:
        raise FormatError(f"its protocol is not the only known one, {_VERSION}")
    _system, at = unpickle(data, NAMES, at=at)
    storages, begin = Storages(), at
    value, at = unpickle(data, NAMES, storages.find, at)
    pickled = at - begin
    keys, at = unpickle(data, NAMES, at=at)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise FormatError(f"at byte {at}: the keys of its storages are no list of texts")
    return Saved(value, pickled, _storage_begins(file, storages, keys, at), big=False)


def _storage_begins(file: MappedFile, storages: Storages, keys: list[str], at: int) -> dict[str, int]:
    begins: dict[str, int] = {}
    for key in keys:
        if key not in storages.sizes or key in begins:
            raise FormatError(f"at byte {at}: a storage {key[:40]!r} that no tensor names, or that is there twice")
        nbytes, itemsize = storages.sizes[key]
        if at + _COUNT.size + nbytes > file.size:
            raise FormatError(f"at byte {at}: storage {key!r} of {nbytes} bytes is cut; fetch the file again")
        (count,) = _COUNT.unpack_from(file.data.data, at)
        if count * itemsize != nbytes:
            raise FormatError(f"at byte {at}: storage {key!r} has {count * itemsize} bytes, its tensors say {nbytes}")
        begins[key] = at + _COUNT.size
        at = begins[key] + nbytes
    missing = storages.sizes.keys() - begins.keys()
    if missing:
        raise FormatError(f"storage {min(missing)!r} is not in the file; it is incomplete, fetch it again")
    return begins
