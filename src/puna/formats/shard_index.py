"""The index of a sharded checkpoint, and the strict JSON that it and safetensors headers are written in.

{"weight_map": {tensor name: file name}}    in <stem>.safetensors.index.json or <stem>.bin.index.json
"""

import json
from pathlib import Path, PureWindowsPath
from typing import Any

from puna.errors import FormatError

MAX_HEADER = 100_000_000
"""Bytes of JSON; the limit of the safetensors library."""


def read_index(path: Path) -> dict[str, str]:
    """Tensor name to file name, from a `*.index.json`; FormatError where one leaves the folder."""
    size = path.stat().st_size
    if size > MAX_HEADER:
        raise FormatError(f"reading {path.name}: {size} bytes are more than {MAX_HEADER}; this is no index")
    index = parse_json(path.read_bytes(), path.name)
    where = index.get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(shard, str) for shard in where.values()):
        raise FormatError(f"reading {path.name}: 'weight_map' is not an object of tensor and file names")
    for name, shard in where.items():
        if not _stays_inside(shard):
            raise FormatError(f"reading {path.name}: tensor {name!r} is in {shard!r}, outside of the index's folder")
    return where


def _stays_inside(name: str) -> bool:
    """Whether a file name stays in its folder on every system; what links in the folder point at is their owner's."""
    path = PureWindowsPath(name)  # knows both kinds of slash, drives and roots
    return bool(path.name) and not path.anchor and ".." not in path.parts and "\0" not in name


def parse_json(text: bytes, name: str) -> dict[str, Any]:
    """An object whose keys, at every depth, are there once; FormatError names `name` and what is wrong."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise FormatError(f"reading {name}: {twice!r} is there twice; one must go")
        return members

    try:
        value = json.loads(text.decode(), object_pairs_hook=once)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"reading {name}: its JSON is broken: {error}; fetch or write the file again") from error
    if not isinstance(value, dict):
        raise FormatError(f"reading {name}: its JSON is no object")
    return value
