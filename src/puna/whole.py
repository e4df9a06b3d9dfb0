"""Files that appear under their name only when they are complete; it does not know what is in them.

.<name>.<random>.partial     what is being written, locked by who writes it; of one that was killed the next writer of
                             the same name removes it
"""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from os import PathLike
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":

    def _locked(descriptor: int) -> bool | None:
        return None

else:
    import fcntl

    def _locked(descriptor: int) -> bool | None:
        """Whether it was granted at once to this file alone; None where a file system has no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True


@contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the name `path` when the block ends, and vanishes if it raises (Ctrl-C too).

    It is written under a temporary name in the same folder, flushed to the disk (fsync), then renamed over `path`.
    OSError at once where `path` is there and is no ordinary file, but a folder or a device.
    """
    with whole_files([path]) as (file,):
        yield file


@contextmanager
def whole_files(paths: Sequence[str | PathLike[str]], *, sync: bool = True) -> Iterator[list[BinaryIO]]:
    """The same with several files: none takes its name before all are complete.

    Without `sync` they reach the disk when the system likes, as with cp: a process that dies still leaves nothing
    half-written under a name, a power cut may.
    """
    targets = [Path(path) for path in paths]
    for target in targets:
        _check_target(target)
    with ExitStack() as locks:
        partials: list[Path] = []
        try:
            with ExitStack() as opened:
                files = [opened.enter_context(_begun(target, partials, locks)) for target in targets]
                yield files
                for file in files:
                    file.flush()
                    if sync:
                        os.fsync(file.fileno())
            for partial, target in zip(partials, targets, strict=True):
                partial.replace(target)
        except BaseException:
            for partial in partials:
                with suppress(OSError):
                    partial.unlink()
            raise
    for folder in {target.parent for target in targets} if sync else ():
        sync_folder(folder)


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "Not an ordinary file", str(target))


def _begun(target: Path, partials: list[Path], locks: ExitStack) -> BinaryIO:
    """A new file beside its target, which is added to `partials`, and its lock to `locks`."""
    stem = os.fsencode(target.name)[:200].decode("utf-8", "ignore")
    _remove_stale(target, stem)
    while True:
        partial = target.with_name(f".{stem}.{os.urandom(4).hex()}.partial")
        file = partial.open("xb", buffering=1 << 20)
        partials.append(partial)
        lock = os.dup(file.fileno())  # holds on after the file is closed, until it has its name
        locks.callback(os.close, lock)
        if _locked(lock) is not False and partial.exists():
            return file
        file.close()  # somebody's cleaning met it before the lock
        partials.remove(partial)


def _remove_stale(target: Path, stem: str) -> None:
    """Remove what those left who began the same name and were killed."""
    for partial in target.parent.glob(f".{escape(stem)}.{'[0-9a-f]' * 8}.partial"):
        with suppress(OSError), partial.open("rb") as file:
            if _locked(file.fileno()):
                partial.unlink()


def sync_folder(folder: Path) -> None:
    """Make renames within a folder last through a power cut; Windows can not open folders and needs no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
