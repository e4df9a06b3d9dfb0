"""PyTorch checkpoints (.bin, .pt, .pth): one file, shards under an index, or Meta's parallel shards, mapped.

    index := JSON {"weight_map": {name: file name}}, in <stem>.bin.index.json

Pickles are read as data by `puna.formats.unpickle`; nothing in them is run. The state dictionary in a file is found by
one rule: as long as a member under one of `WRAPPERS` has tensors, it is in that member (of several, the first). Names
are the keys on the way from there to a tensor, joined by dots.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from functools import partial
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from puna.dtypes import Stored
from puna.errors import FormatError
from puna.formats.mapped import MappedFile, MappedFiles
from puna.formats.shard_index import MAX_HEADER, parse_json, read_index
from puna.formats.strided import to_stored
from puna.formats.torch_archive import Saved, read_saved
from puna.formats.torch_shards import join_shards
from puna.formats.torch_values import View
from puna.formats.unpickle import Name

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "params_ema", "params")
"""Keys under which training scripts save the state dictionary among other things."""

MAX_DEPTH = 32
MAX_NAME = 1000  # characters


class Torch(MappedFiles):
    """An open PyTorch checkpoint: `.tensors` by name; `.metadata` has what is no tensor, by its keys joined by dots.

    Its values are text, bytes, numbers, bool, None, and tuples of these. `.params` is Meta's params.json, else empty.
    Usable as a context manager; what closing does is told in `puna.formats.mapped`.
    """

    def __init__(
        self,
        files: Sequence[MappedFile],
        tensors: Mapping[str, Stored],
        metadata: Mapping[str, Any],
        params: Mapping[str, Any],
    ) -> None:
        super().__init__(files)
        self.tensors: Mapping[str, Stored] = MappingProxyType(dict(tensors))
        self.metadata: Mapping[str, Any] = MappingProxyType(dict(metadata))
        self.params: Mapping[str, Any] = MappingProxyType(dict(params))

    def __repr__(self) -> str:
        return f"Torch({len(self._files)} files, {len(self.tensors)} tensors)"


def open_torch(path: str | PathLike[str] | Sequence[str | PathLike[str]]) -> Torch:
    """Open a PyTorch file, an index, a folder that has one of either, or a list of files as one checkpoint.

    Of an index's shards, only the tensors it lists are there. Several consolidated.*.pth are joined as
    `puna.formats.torch_shards` says. FormatError names the file, and the tensor, shard or global that is wrong.
    """
    paths = [Path(path)] if isinstance(path, str | PathLike) else [Path(each) for each in path]
    if len(paths) == 1 and paths[0].is_dir():
        paths = _in_folder(paths[0])
    if len(paths) == 1 and paths[0].name.endswith(".index.json"):
        return _open_index(paths[0])
    if paths and all(_is_any(each, _CONSOLIDATED) for each in paths):
        params = _read_params(paths[0].parent / "params.json")
        return _open_all(sorted(paths), partial(join_shards, params=params), params)
    return _open_all(paths, _union)


_CONSOLIDATED = ("consolidated.*.pth", "consolidated.*.pt", "consolidated.pth")
_IN_FOLDER = (
    ("*.bin.index.json",),
    ("pytorch_model.bin",),
    ("pytorch_model-*-of-*.bin",),
    _CONSOLIDATED,
    ("*.bin", "*.pt", "*.pth"),
)
_SETS = _IN_FOLDER[2:4]  # of these, all files together are one checkpoint
_BESIDE = ("training_args.bin", "optimizer*", "scheduler*", "scaler*", "rng_state*")


def _is_any(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in patterns)


def _in_folder(folder: Path) -> list[Path]:
    for patterns in _IN_FOLDER:
        found = sorted(path for pattern in patterns for path in folder.glob(pattern) if not _is_any(path, _BESIDE))
        if len(found) == 1 or (found and patterns in _SETS):
            return found
        if found:
            names = ", ".join(each.name for each in found)
            raise FormatError(f"opening {folder.name}: which of {names}? name one file, or give the list of all")
    raise FormatError(f"opening {folder.name}: no *.bin, *.pt or *.pth, and no *.bin.index.json in it")


def _read_params(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_HEADER:
        raise FormatError(f"reading {path.name}: {path.stat().st_size} bytes are more than {MAX_HEADER}")
    return parse_json(path.read_bytes(), path.name)


_Combine = Callable[[Mapping[Path, Mapping[str, Stored]]], dict[str, Stored]]


def _open_all(paths: Sequence[Path], combine: _Combine, params: Mapping[str, Any] | None = None) -> Torch:
    """Open files; `combine` makes one mapping of their tensors, which it gets by file."""
    files: list[MappedFile] = []
    found: dict[Path, Mapping[str, Stored]] = {}
    metadata: dict[str, Any] = {}
    with ExitStack() as opened:
        for path in paths:
            files.append(file := MappedFile(path))
            opened.callback(file.close)
            if path in found:
                raise FormatError(f"opening {file.name}: it is in the list twice; once is enough")
            found[path], more = _read_file(file)
            metadata = more | metadata
        tensors = combine(found)
        opened.pop_all()
    return Torch(files, tensors, metadata, params or {})


def _union(found: Mapping[Path, Mapping[str, Stored]]) -> dict[str, Stored]:
    tensors: dict[str, Stored] = {}
    for file, more in found.items():
        twice = tensors.keys() & more.keys()
        if twice:
            raise FormatError(f"reading {file.name}: tensor {min(twice)!r} is in another file too; one must go")
        tensors |= more
    return tensors


def _open_index(path: Path) -> Torch:
    """Open the shards that an index names, with the tensors it lists."""
    where = read_index(path)
    shards = sorted(set(where.values()))
    for shard in shards:
        if not (path.parent / shard).is_file():
            raise FormatError(f"opening {path.name}: shard {shard!r} is missing; all shards must be in its folder")

    def listed(found: Mapping[Path, Mapping[str, Stored]]) -> dict[str, Stored]:
        for name, shard in where.items():
            if name not in found[path.parent / shard]:
                raise FormatError(
                    f"opening {path.name}: tensor {name!r} is listed, but not in {shard!r}; fetch it again"
                )
        return {name: found[path.parent / shard][name] for name, shard in where.items()}

    return _open_all([path.parent / shard for shard in shards], listed)


def _read_file(file: MappedFile) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Check what a file holds; return the tensors of its state dictionary, and what is no tensor."""
    saved = read_saved(file)
    try:
        leaves = _flatten(saved)
        views = [(path, leaf) for path, leaf in leaves if type(leaf) is View]
        top = _state_path([path for path, _ in views])
        inside = _named((path[len(top) :], view) for path, view in views if path[: len(top)] == top)
        metadata = _named((path, leaf) for path, leaf in leaves if type(leaf) is not View)
    except FormatError as error:
        raise FormatError(f"reading {file.name}: {error}") from error
    tensors: dict[str, Stored] = {
        name: to_stored(file, name, view, saved.begins[view.storage.key], big=saved.big)
        for name, view in inside.items()
    }
    return tensors, metadata


_Path = tuple[str, ...]
_PLAIN = (str, bytes, int, float, bool, type(None))


def _flatten(saved: Saved) -> list[tuple[_Path, Any]]:
    """The tensors and plain values in what was saved, with the keys on the way to them.

    Containers may be in others many times over, so the steps and names that a pickle of this size can need are counted.
    """
    leaves: list[tuple[_Path, Any]] = []
    left = 64 * saved.pickled + 2**20

    def walk(value: Any, path: _Path, length: int) -> None:
        nonlocal left
        left -= 64 + length + (len(value) if type(value) in (list, tuple) else 0)
        if left < 0 or len(path) > MAX_DEPTH or length > MAX_NAME:
            raise FormatError(
                f"more values in each other than its size explains, or names of more than {MAX_DEPTH} keys and "
                f"{MAX_NAME} characters; save the state_dict() alone"
            )
        for key, member in _members(value):
            walk(member, (*path, key), length + len(key) + 1)
        if type(value) not in (dict, list, tuple) or _is_plain(value):
            leaves.append((path, _leaf(value)))

    walk(saved.value, (), 0)
    return leaves


def _is_plain(value: Any) -> bool:
    return type(value) in (list, tuple) and all(type(each) in _PLAIN for each in value)


def _members(value: Any) -> Iterable[tuple[str, Any]]:
    if type(value) is dict:
        return ((key.decode("latin-1") if type(key) is bytes else str(key), member) for key, member in value.items())
    if type(value) in (list, tuple) and not _is_plain(value):
        return ((str(index), member) for index, member in enumerate(value))
    return ()


def _leaf(value: Any) -> Any:
    if type(value) in (list, tuple):
        return tuple(value)
    if type(value) is Name:
        return value.name
    if type(value) is View or type(value) in _PLAIN:
        return value
    raise FormatError("it has a storage that is no tensor; save the state_dict() alone")


def _state_path(paths: Sequence[_Path]) -> _Path:
    """The keys on the way to the state dictionary, by the paths of all tensors."""
    top: _Path = ()
    while True:
        members = {path[len(top)] for path in paths if path[: len(top)] == top and len(path) > len(top) + 1}
        wrapper = next((each for each in WRAPPERS if each in members), None)
        if wrapper is None:
            return top
        top = (*top, wrapper)


def _named(leaves: Iterable[tuple[_Path, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for path, leaf in leaves:
        name = ".".join(path) or "tensor"
        if name in named:
            raise FormatError(f"{name!r} is there twice; one must go")
        named[name] = leaf
    return named
