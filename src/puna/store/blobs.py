"""Blobs: files named by the SHA-256 of their bytes. It does not know manifests, nor who needs a blob.

blobs/sha256-<64 hex>          a blob; written elsewhere, synced, verified, then renamed
blobs/.puna/<random>/          the temporaries of one live process, locked by it
blobs/.puna/lock               shared by those who add, exclusive to those who delete
"""

import errno
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from puna.errors import DigestMismatch, StoreError
from puna.store.locks import LOCKS, locked, own_folder
from puna.whole import sync_folder

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the bytes done and the bytes in all (0 where unknown)."""

_CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_FICLONE = 0x40049409
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Blob:
    """One stored file: `digest` is 'sha256:<hex>', `size` in bytes, `new` whether it was not there before.

    `linked`: it shares its bytes with the file it came from, and whoever writes to that changes it.
    """

    digest: str
    size: int
    new: bool
    linked: bool = False


def silent(status: str, done: int, size: int) -> None:
    """A Progress that shows nothing."""


def parse_digest(text: object) -> str:
    """Reads 'sha256:<64 hex>' (or with '-') into its usual spelling; StoreError otherwise."""
    match = _DIGEST.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise StoreError(f"digest {str(text)[:80]!r}: not a digest; 'sha256:' and 64 hexadecimal digits work")
    return f"sha256:{match[1].lower()}"


def digest_of(data: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def readable_size(size: float) -> str:
    """Bytes in decimal units, as stores and disks count them: 98362432 is '98 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


@contextmanager
def storing(what: str, folder: Path, size: int = 0) -> Iterator[None]:
    """Turns the system's refusals while `folder` is written into one StoreError that names `what` and the sizes."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(what, folder, size) from error
        if error.errno == errno.EFBIG:
            raise StoreError(
                f"storing {what}: the disk of {folder}, or a limit of this process, takes no file so large; "
                "set PUNA_MODELS to a folder on another disk, or raise `ulimit -f`"
            ) from error
        if isinstance(error, (PermissionError, NotADirectoryError)) or error.errno == errno.EROFS:
            reason = f"{error.filename or folder}: {error.strerror}"
            raise StoreError(
                f"storing {what}: {reason}; a store that you may write to works, set PUNA_MODELS"
            ) from error
        raise


def _full(what: str, folder: Path, size: int) -> StoreError:
    free = shutil.disk_usage(folder).free
    needed = f"{readable_size(size)} needed, " if size else ""
    return StoreError(
        f"storing {what}: the disk of {folder} is full ({needed}{readable_size(free)} free); "
        "free some space, or set PUNA_MODELS to a folder on another disk"
    )


def require_space(what: str, folder: Path, size: int) -> None:
    """Raises StoreError, before anything is written, where the disk of `folder` has no room for `size` bytes."""
    if shutil.disk_usage(folder).free < size:
        raise _full(what, folder, size)


@contextmanager
def temporary_folder(blobs: Path) -> Iterator[Path]:
    """A folder of this process beside the blobs, removed at the end; those of dead processes go too."""
    parent = blobs / ".puna"
    parent.mkdir(parents=True, exist_ok=True)
    remove_stale(parent)
    while True:
        folder = parent / os.urandom(8).hex()
        folder.mkdir()
        with own_folder(folder) as owned:
            if not owned:  # somebody's cleaning met it between mkdir and the lock
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def remove_stale(parent: Path) -> None:
    """Removes the temporary folders whose process is gone."""
    for folder in parent.iterdir():
        if not folder.is_dir():
            continue
        with own_folder(folder) as owned, suppress(OSError):
            if owned and (LOCKS or time.time() - folder.stat().st_mtime > _STALE_SECONDS):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def deletion_lock(blobs: Path, *, exclusive: bool, wait: bool) -> Iterator[bool]:
    """The lock between adding (shared) and deleting (exclusive); yields whether it was granted."""
    (blobs / ".puna").mkdir(parents=True, exist_ok=True)
    with locked(blobs / ".puna" / "lock", exclusive=exclusive, wait=wait) as granted:
        yield granted


def blob_path(blobs: Path, digest: str) -> Path:
    """The path of a blob; StoreError where the digest is not one (so it cannot lead elsewhere)."""
    return blobs / parse_digest(digest).replace(":", "-")


def add_stream(
    blobs: Path,
    temporary: Path,
    chunks: Iterable[bytes],
    *,
    what: str,
    size: int = 0,
    digest: str | None = None,
    on_progress: Progress | None = None,
) -> Blob:
    """Stores the bytes of `chunks`; DigestMismatch where `digest` is given and they do not hash to it."""
    require_space(what, blobs, size)
    hasher, done, path = hashlib.sha256(), 0, temporary / os.urandom(8).hex()
    with storing(what, blobs, size), removing(path):
        with path.open("xb") as file:
            for chunk in chunks:
                hasher.update(chunk)
                file.write(chunk)
                done += len(chunk)
                if on_progress:
                    on_progress(f"storing {what}", done, max(size, done))
            file.flush()
            os.fsync(file.fileno())
        return _name_blob(blobs, path, f"sha256:{hasher.hexdigest()}", digest, what)


def add_file(
    blobs: Path,
    temporary: Path,
    source: Path,
    *,
    link: bool = False,
    digest: str | None = None,
    on_progress: Progress | None = None,
) -> Blob:
    """Stores a local file: as a copy-on-write clone where the file system has them, else as a copy.

    With `link` a hard link comes before the copy: right only for files that nobody writes to in place. Which of them it
    was is in the progress. The digest is that of the bytes stored, taken while they are copied or right after.
    """
    path = temporary / os.urandom(8).hex()
    with storing(str(source), blobs, source.stat().st_size), removing(path):
        way = "a clone" if _clone(source, path) else "a hard link" if link and _hard_link(source, path) else ""
        if way:
            blob = adopt(blobs, path, what=f"{source} ({way})", digest=digest, on_progress=on_progress)
            return replace(blob, linked=way == "a hard link")
    with source.open("rb") as file:
        chunks = iter(lambda: file.read(_CHUNK), b"")
        return add_stream(
            blobs,
            temporary,
            chunks,
            what=f"{source} (a copy)",
            size=source.stat().st_size,
            digest=digest,
            on_progress=on_progress,
        )


def adopt(
    blobs: Path, path: Path, *, what: str, digest: str | None = None, on_progress: Progress | None = None
) -> Blob:
    """Makes a finished temporary file a blob; the file is gone from its place afterwards."""
    hasher, done, size = hashlib.sha256(), 0, path.stat().st_size
    with storing(what, blobs, size), removing(path):
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
                done += len(chunk)
                if on_progress:
                    on_progress(f"storing {what}", done, size)
            os.fsync(file.fileno())
        return _name_blob(blobs, path, f"sha256:{hasher.hexdigest()}", digest, what)


def _name_blob(blobs: Path, path: Path, actual: str, expected: str | None, what: str) -> Blob:
    if expected is not None and parse_digest(expected) != actual:
        raise DigestMismatch(f"storing {what}: its bytes hash to {actual}, not to {expected}; fetch it again")
    size, target = path.stat().st_size, blob_path(blobs, actual)
    if target.is_file() and target.stat().st_size == size:
        os.utime(target)  # seen as fresh by whoever prunes by age
        return Blob(actual, size, new=False)
    path.replace(target)
    sync_folder(blobs)
    return Blob(actual, size, new=True)


@contextmanager
def removing(path: Path) -> Iterator[None]:
    """Removes a temporary file at the end, whatever happened, if it still has that name."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _clone(source: Path, target: Path) -> bool:
    """Whether `target` was made a file of its own that shares the bytes of `source` until one of them is written to."""
    if sys.platform == "darwin":
        return _clone_apfs(source, target)
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    with source.open("rb") as origin, target.open("xb") as clone:
        try:
            fcntl.ioctl(clone.fileno(), _FICLONE, origin.fileno())
            return True
        except OSError:
            pass
    target.unlink()
    return False


def _clone_apfs(source: Path, target: Path) -> bool:
    import ctypes

    function = getattr(ctypes.CDLL(None), "clonefile", None)  # since macOS 10.12
    return function is not None and function(os.fsencode(source.resolve()), os.fsencode(target), 0) == 0


def _hard_link(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True
