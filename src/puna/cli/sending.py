"""A Modelfile as a create request: the files of this machine that it names are sent, by their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.create.modelfile import Modelfile, expand_path
from puna.errors import ModelfileError
from puna.formats.gguf_shards import SHARD, sets_of
from puna.store.reference import is_path, is_remote

if TYPE_CHECKING:
    from puna.cli.progress import Progress
    from puna.cli.remote import Server

PIECE = 1 << 20
ADAPTER_FILES = ("adapter_config.json", "adapter_model.*")


def request(modelfile: Modelfile, directory: Path, server: Server, progress: Progress) -> dict[str, Any]:
    """The fields of the request, once every file is there. ModelfileError for what a request has no way to say."""
    asked = modelfile.request()
    if drafts := asked.pop("draft", None):
        raise ModelfileError(f"DRAFT {drafts[0]}: a server takes none; it works in this machine's store")
    names, paths = _sorted(modelfile.texts("from"), directory, server)
    if len(names) > 1:
        raise ModelfileError(f"FROM {names[1]}: a server takes one name, and has {names[0]}")
    del asked["from"]
    adapters = [Path(expand_path(text, directory)) for text in asked.pop("adapters", ())]
    if len(adapters) > 1:
        raise ModelfileError(f"ADAPTER {adapters[1]}: a server takes one at a time; a model of the first can be FROM")
    asked |= {"from": names[0]} if names else {}
    for field, roots in (("files", paths), ("adapters", adapters)):
        if found := {name: path for root in roots for name, path in _files(root, field)}:
            asked[field] = {name: upload(path, server, progress) for name, path in found.items()}
    return asked


def _sorted(texts: Sequence[str], directory: Path, server: Server) -> tuple[list[str], list[Path]]:
    """What FROM means there, and what it means here: paths, and files of this machine that are no models there."""
    names, paths = [], []
    for text in texts:
        path = Path(expand_path(text, directory))
        here = is_path(text) or (path.exists() and server.digest(text) is None)
        if here and not is_remote(text):
            paths.append(path)
        else:
            names.append(text)
    return names, paths


def _files(path: Path, field: str) -> Iterator[tuple[str, Path]]:
    """What a file or directory brings, by its names in the request: a GGUF file with the others of its set."""
    from puna.create.source import find_files

    if path.is_dir():
        adapter = (each.name for pattern in ADAPTER_FILES for each in sorted(path.glob(pattern)))
        yield from ((name, path / name) for name in (adapter if field == "adapters" else find_files(path)))
    elif not path.is_file():
        raise ModelfileError(f"{path}: there is no such file or directory; a GGUF file or a checkpoint works")
    elif match := SHARD.fullmatch(path.name):
        beside = sets_of(each.name for each in path.parent.glob("*.gguf"))
        yield from ((name, path.with_name(name)) for name in beside[f"{match[1]}.gguf"])
    else:
        yield (path.name if path.suffix == ".gguf" else f"{path.name}.gguf"), path


def upload(path: Path, server: Server, progress: Progress) -> str:
    """The digest of a file, which the server has now."""
    size, hasher = path.stat().st_size, hashlib.sha256()
    for piece in _pieces(path, f"reading {path.name}", progress):
        hasher.update(piece)
    digest = f"sha256:{hasher.hexdigest()}"
    if not server.holds(f"/api/blobs/{digest}"):
        server.send(f"/api/blobs/{digest}", _pieces(path, f"sending {path.name}", progress), size)
    return digest


def _pieces(path: Path, doing: str, progress: Progress) -> Iterator[bytes]:
    done, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
            done += len(piece)
            progress(doing, done, size)
