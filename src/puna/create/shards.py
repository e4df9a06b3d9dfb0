"""A model as one GGUF file or as several shards, named and numbered as llama.cpp's gguf-split does.

out.gguf   ->   out-00001-of-00003.gguf   all metadata, split.no 0, split.count 3, split.tensors.count
                out-00002-of-00003.gguf   split.* alone, split.no 1 ...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from puna.dtypes import Stored
from puna.errors import ConversionError

UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
MOST = 99999


@dataclass(frozen=True)
class Shard:
    """One file of the output."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]


def parse_size(text: str | int, what: str = "shard size") -> int:
    """Bytes of `500M`, `2G`, `1.5G` or a number; ConversionError for anything else, and for none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", str(text).strip().upper())
    size = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if size < 1:
        raise ConversionError(f"converting: the {what} is {text!r}; a number of bytes such as 500M or 2G would work")
    return size


def cut(out: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Stored], size: int | None) -> list[Shard]:
    """The files of the output, each with at most `size` bytes of tensors, or one larger tensor; None: one file."""
    if size is None:
        return [Shard(out, metadata, tensors)]
    groups = _groups(tensors, size)
    if len(groups) > MOST:
        raise ConversionError(f"converting: shards of {size} bytes would be {len(groups)} files; {MOST} are the most")
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", out.name.removesuffix(".gguf"))
    shards = []
    for number, names in enumerate(groups):
        split = {
            "split.no": np.uint16(number),
            "split.count": np.uint16(len(groups)),
            "split.tensors.count": np.int32(len(tensors)),
        }
        path = out.with_name(f"{stem}-{number + 1:05d}-of-{len(groups):05d}.gguf")
        shards.append(Shard(path, ({} if number else dict(metadata)) | split, {n: tensors[n] for n in names}))
    return shards


def _groups(tensors: Mapping[str, Stored], size: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        nbytes = tensor.dtype.nbytes(tensor.shape)
        if groups[-1] and filled + nbytes > size:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += nbytes
    return groups
