"""Files that appear under their name only when they are complete; it does not know what is in them."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the name `path` when the block ends, and vanishes if it raises (Ctrl-C too).

    It is written under a temporary name in the same folder, flushed to the disk (fsync), then renamed over `path`.
    """
    with whole_files([path]) as (file,):
        yield file


@contextmanager
def whole_files(paths: Sequence[str | PathLike[str]]) -> Iterator[list[BinaryIO]]:
    """The same with several files: none takes its name before all are complete and on the disk."""
    targets = [Path(path) for path in paths]
    partials = [target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.partial") for target in targets]
    try:
        with ExitStack() as opened:
            files = [opened.enter_context(partial.open("xb", buffering=1 << 20)) for partial in partials]
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        for partial, target in zip(partials, targets, strict=True):
            partial.replace(target)
    except BaseException:
        for partial in partials:
            with suppress(OSError):
                partial.unlink()
        raise
    for folder in {target.parent for target in targets}:
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames within a folder last through a power cut; Windows can not open folders and needs no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
