"""The names of a GGUF checkpoint's shards, <stem>-00001-of-00003.gguf and so on. It opens no file."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
"""A shard's file name: stem, number from 1, count."""


def shard_name(stem: str, number: int, count: int) -> str:
    """The file name of a shard, numbered from 1."""
    return f"{stem}-{number:05d}-of-{count:05d}.gguf"


def first_shard(path: Path) -> Path:
    """The first file of the set that a file belongs to by its name; of a file that is no shard, the file itself."""
    match = SHARD.fullmatch(path.name)
    return path.with_name(shard_name(match[1], 1, int(match[3]))) if match else path


def sets_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Files by the set they belong to: the set's name is its files' without `-00001-of-00003`, or the one file's."""
    sets: dict[str, list[str]] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        match = SHARD.fullmatch(path.name)
        sets.setdefault(str(path.with_name(f"{match[1]}.gguf")) if match else name, []).append(name)
    return sets
