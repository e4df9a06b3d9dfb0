"""Advisory locks on files and folders, released by the system when their owner dies.

Where the system has none (Windows), every lock is granted; the store then leans on atomic renames and on the age of
files.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    LOCKS = False

    def _lock(descriptor: int, exclusive: bool, wait: bool) -> bool:
        return True

else:
    import fcntl

    LOCKS = True

    def _lock(descriptor: int, exclusive: bool, wait: bool) -> bool:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def locked(path: Path, *, exclusive: bool, wait: bool) -> Iterator[bool]:
    """Holds a lock on a file (made when absent) and yields whether it was granted.

    One exclusive holder, or any number of shared ones. Without `wait` it yields False at once while others hold it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        yield _lock(descriptor, exclusive, wait)
    finally:
        os.close(descriptor)


@contextmanager
def own_folder(path: Path) -> Iterator[bool]:
    """Takes an existing folder for this process alone; yields False where a live process has it, or it is gone."""
    if not LOCKS:
        yield True
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(descriptor, exclusive=True, wait=False) and _still_there(path, descriptor)
    finally:
        os.close(descriptor)


def _still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
