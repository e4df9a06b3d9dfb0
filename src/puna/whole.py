"""Files that appear under their name only when they are complete; it does not know what is in them."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the name `path` when the block ends, and vanishes if it raises (Ctrl-C too).

    It is written under a temporary name in the same folder, flushed to the disk (fsync), then renamed over `path`.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.partial")
    file = partial.open("xb", buffering=1 << 20)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames within a folder last through a power cut; Windows can not open folders and needs no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
