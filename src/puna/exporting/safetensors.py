"""A safetensors file, written tensor by tensor: https://github.com/huggingface/safetensors#format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Part(NamedTuple):
    """A tensor to be written: its type as the format calls it, and what gives its values when its turn comes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """What it takes in the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * {"F32": 4, "U32": 4, "F16": 2, "BF16": 2}[self.dtype]


def write_safetensors(
    file: BinaryIO, parts: Sequence[Part], made_for: str, on_progress: Callable[[str, int, int], None] | None = None
) -> None:
    """Write tensors in order; `made_for` is the library that the file says it is for."""
    header: dict[str, Any] = {"__metadata__": {"format": made_for}}
    end = 0
    for part in parts:
        header[part.name] = {"dtype": part.dtype, "shape": part.shape, "data_offsets": [end, end + part.nbytes]}
        end += part.nbytes
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % 8)
    file.write(len(said).to_bytes(8, "little") + said)
    _write(file, parts, end, on_progress)


def _write(
    file: BinaryIO, parts: Iterable[Part], total: int, on_progress: Callable[[str, int, int], None] | None
) -> None:
    done = 0
    for part in parts:
        data = np.ascontiguousarray(part.make())
        if data.nbytes != part.nbytes:
            raise AssertionError(f"{part.name}: {data.nbytes} bytes, {part.nbytes} were said")
        file.write(data.data)
        done += part.nbytes
        if on_progress is not None:
            on_progress(part.name, done, total)
