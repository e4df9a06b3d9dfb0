"""Files of the Hugging Face hub, fetched so that an interrupted download goes on later.

Talks through `huggingface_hub`, which knows tokens (HF_TOKEN), HF_ENDPOINT and proxies. It does not know what is in the
files.

    <file>.<first digits of the checksum>.partial      what has come so far; renamed when it is whole and checked
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from puna.create.hub.errors import explained, is_network
from puna.create.hub.repository import RemoteFile, Repository, endpoint
from puna.errors import StoreError
from puna.store.blobs import Progress, require_space, silent, storing
from puna.store.hub_ref import cache_entry
from puna.store.locks import locked

_CHUNK = 1 << 20
_MAX_HTTP = 50 * 10**9
"""Bytes of the largest file that comes by plain HTTP; larger ones need hf_xet."""


def fetch(
    repository: Repository,
    names: Iterable[str],
    folder: Path,
    on_progress: Progress | None = None,
    *,
    check: bool = True,
) -> None:
    """Fetches files into `folder`, which may have some of them, whole or begun, from an earlier time.

    `check`: their checksums are compared while they come; without it, only their sizes. One process at a time.
    """
    wanted = [repository.files[name] for name in names]
    missing = [file for file in wanted if not _whole(folder / file.name, file)]
    folder.mkdir(parents=True, exist_ok=True)
    require_space(str(repository.ref), folder, sum(file.size - _begun(folder, file) for file in missing))
    for file in missing:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch_file(repository, file, _partial(folder, file), on_progress, check=check).replace(path)


def fetch_to_cache(repository: Repository, names: Iterable[str], on_progress: Progress | None = None) -> Path:
    """Fetches files into the hub's own cache, where other programs find them too; returns the snapshot's folder."""
    entry = cache_entry(repository.ref)
    blobs, snapshot = entry / "blobs", entry / "snapshots" / repository.commit
    locks = entry.parent / ".locks" / entry.name
    for made in (blobs, locks):
        made.mkdir(parents=True, exist_ok=True)
    for name in names:
        file = repository.files[name]
        blob, link = blobs / (file.checksum or f"{repository.commit}-{name.replace('/', '-')}"), snapshot / name
        with locked(locks / "puna.lock", exclusive=True, wait=True):
            if not _whole(blob, file):
                require_space(name, blobs, file.size)
                fetch_file(repository, file, blob.with_name(f"{blob.name}.incomplete"), on_progress).replace(blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(os.path.relpath(blob, link.parent))
        except OSError:  # Windows without the right to make links; the hub's library does the same
            shutil.copyfile(blob, link)
    reference = entry / "refs" / (repository.ref.revision or "main")
    if reference.name != repository.commit:
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(repository.commit, "ascii")
    return snapshot


def _partial(folder: Path, file: RemoteFile) -> Path:
    path = folder / file.name
    return path.with_name(f"{path.name}.{file.checksum[:16] or 'unknown'}.partial")


def _begun(folder: Path, file: RemoteFile) -> int:
    with suppress(OSError):
        return min(_partial(folder, file).stat().st_size, file.size)
    return 0


def _whole(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size


def fetch_file(
    repository: Repository, file: RemoteFile, partial: Path, on_progress: Progress | None = None, *, check: bool = True
) -> Path:
    """Fetches the rest of one file to `partial`, which is whole and checked afterwards.

    StoreError where the hub cannot be reached: what has come stays. Bytes that are not the file's are removed.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    if file.size > _MAX_HTTP:
        return _fetch_huge(repository, file, partial)
    url = hf_hub_url(repository.ref.id, file.name, revision=repository.commit, endpoint=endpoint())
    headers: dict[str, Any] = build_hf_headers(library_name="puna")

    def go_on(target: _Target, begun: int) -> None:
        http_get(url, target, resume_size=begun, headers=headers, expected_size=file.size)  # type: ignore[arg-type]

    with storing(file.name, partial.parent, file.size), partial.open("a+b") as stream, explained(repository.ref):
        target = _Target(stream, file, on_progress or silent, check=check)
        with _without_bars():
            _persist(go_on, target, target.begin())
    if (came := partial.stat().st_size) != file.size or not target.right():
        partial.unlink()
        raise StoreError(
            f"downloading {file.name} of {repository.ref}: {came} bytes came that are not the file's {file.size}; "
            "they are removed, fetch it again"
        )
    return partial


def _persist(go_on: Callable[[_Target, int], None], target: _Target, begun: int) -> None:
    """Goes on where the line broke, as long as each try brings something."""
    while begun < target.size:
        try:
            go_on(target, begun)
        except Exception as error:
            stopped = target.tell()
            if type(error) is OSError and error.errno is None:  # the library's own check of the size; ours says more
                return
            if not is_network(error) or stopped <= begun:
                raise
            begun = stopped
        else:
            return


def _fetch_huge(repository: Repository, file: RemoteFile, partial: Path) -> Path:
    """Fetches a file that the hub does not serve by plain HTTP; whether that goes on later is up to the library."""
    from huggingface_hub import hf_hub_download

    folder = partial.parent / ".huge"
    with explained(repository.ref):
        path = hf_hub_download(
            repository.ref.id, file.name, revision=repository.commit, local_dir=folder, endpoint=endpoint()
        )
    return Path(path).replace(partial)


class _Target:
    """The file that a download is written to: reports, and sums up what is in it."""

    def __init__(self, stream: BinaryIO, file: RemoteFile, on_progress: Progress, *, check: bool) -> None:
        self.size = file.size
        self._stream = stream
        self._file = file
        self._progress = on_progress
        self._check = check and bool(file.checksum)
        self._sum = self._new_sum()

    def begin(self) -> int:
        """Where to go on: behind the bytes that are there, unless they are too many."""
        self._stream.seek(0)
        if os.fstat(self._stream.fileno()).st_size > self._file.size:
            self._stream.truncate(0)
        while self._check and (chunk := self._stream.read(_CHUNK)):
            self._sum.update(chunk)
        return self._stream.seek(0, os.SEEK_END)

    def write(self, chunk: bytes) -> int:
        """As a file's."""
        if self._check:
            self._sum.update(chunk)
        self._stream.write(chunk)
        self._progress(f"downloading {self._file.name}", self._stream.tell(), self._file.size)
        return len(chunk)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's; whoever goes back writes anew."""
        self._sum = self._new_sum()
        return self._stream.seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        """As a file's."""
        return self._stream.truncate(size)

    def tell(self) -> int:
        """As a file's."""
        return self._stream.tell()

    def right(self) -> bool:
        """Whether the bytes have the checksum that the hub says."""
        return not self._check or self._sum.hexdigest() == self._file.checksum

    def _new_sum(self) -> Any:
        if self._file.large:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self._file.size, usedforsecurity=False)  # as git names a file's bytes


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keeps the library's own progress bars away; the caller has a Progress."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    group = "huggingface_hub.http_get"
    if are_progress_bars_disabled(group):
        yield
        return
    disable_progress_bars(group)
    try:
        yield
    finally:
        enable_progress_bars(group)
