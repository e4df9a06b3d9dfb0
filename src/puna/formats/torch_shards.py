"""Meta's layout of large models: consolidated.NN.pth, each with a slice of every tensor, seen as whole tensors.

Which way a tensor was cut is told by its name alone (`RULES`), as in Meta's own code and in the converters that others
published; token embeddings were cut by columns for Llama 1 and 2 and by rows since, which the length of `norm.weight`
tells apart. A tensor that is in one file only belongs to that file, as in Mistral's checkpoints. It knows no values.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import DType, Stored
from puna.errors import FormatError
from puna.formats.mapped import Bytes, to_values

RULES: tuple[tuple[str, str], ...] = (
    ("*norm.weight", "copied"),
    ("*norm.bias", "copied"),
    ("*.gate.weight", "copied"),
    ("rope.freqs", "copied"),
    ("freqs_cis", "copied"),
    ("*attention.wk.weight", "key rows"),
    ("*attention.wv.weight", "key rows"),
    ("*attention.wq.weight", "rows"),
    ("*attention.wo.weight", "columns"),
    ("*feed_forward.w1.weight", "rows"),
    ("*feed_forward.w3.weight", "rows"),
    ("*feed_forward.w2.weight", "columns"),
    ("output.weight", "rows"),
    ("tok_embeddings.weight", "hidden size"),
)
"""Pattern of the name, and how its slices lie: the first that fits counts."""


class JoinedTensor:
    """Slices of one tensor, side by side along `axis` (a `puna.dtypes.Stored`); copied when read."""

    __slots__ = ("axis", "dtype", "name", "nbytes", "parts", "shape")

    def __init__(self, name: str, parts: Sequence[Stored], axis: int) -> None:
        first = parts[0].shape
        self.name = name
        self.parts = tuple(parts)
        self.axis = axis
        self.shape = (*first[:axis], sum(part.shape[axis] for part in parts), *first[axis + 1 :])
        self.dtype: DType = parts[0].dtype
        self.nbytes = self.dtype.nbytes(self.shape)

    @property
    def raw(self) -> Bytes:
        """The bytes of the whole tensor: a copy, 1-D."""
        rows = prod(self.shape[: self.axis])
        slices = [part.raw for part in self.parts]
        return np.concatenate([each.reshape(rows, each.size // max(rows, 1)) for each in slices], axis=1).reshape(-1)

    def numpy(self) -> NDArray[Any]:
        """The values in `shape`: float32 for floats, else the integer type."""
        return to_values(self.raw, self.dtype, self.shape)

    def __repr__(self) -> str:
        return f"JoinedTensor({self.name!r}, {self.shape}, {self.dtype}, {len(self.parts)} parts)"


def join_shards(found: Mapping[Path, Mapping[str, Stored]], params: Mapping[str, Any]) -> dict[str, Stored]:
    """Return whole tensors of the files of a set (their tensors by file, in order).

    FormatError for a tensor that some files lack, whose slices do not fit each other, or that no rule knows.
    """
    names = dict.fromkeys(name for tensors in found.values() for name in tensors)
    return {name: _join(name, found, params) for name in names}


def _join(name: str, found: Mapping[Path, Mapping[str, Stored]], params: Mapping[str, Any]) -> Stored:
    parts = [tensors[name] for tensors in found.values() if name in tensors]
    if len(parts) == 1:
        return parts[0]
    where = f"joining {len(found)} files: tensor {name!r}"
    if len(parts) != len(found):
        lacking = next(file.name for file, tensors in found.items() if name not in tensors)
        raise FormatError(f"{where} is not in {lacking!r}; fetch it again")
    rule = next((rule for pattern, rule in RULES if fnmatch(name, pattern)), None)
    if rule is None:
        raise FormatError(f"{where} is none of those whose slicing is known; export the model to safetensors")
    if len({str(part.dtype) for part in parts}) > 1 or len({part.shape for part in parts}) > 1:
        raise FormatError(f"{where} has slices of different shapes or types; are the files of one set?")
    if rule == "copied":
        return parts[0]
    if len(parts[0].shape) != 2:
        raise FormatError(f"{where} has slices of shape {parts[0].shape}; matrices are known")
    if rule == "hidden size":
        rule = _embedding_rule(where, parts, found)
    if rule == "key rows":
        parts = _without_copies(where, parts, params)
    return JoinedTensor(name, parts, axis=1 if rule == "columns" else 0)


def _embedding_rule(where: str, parts: Sequence[Stored], found: Mapping[Path, Mapping[str, Stored]]) -> str:
    norm = next(iter(found.values())).get("norm.weight")
    columns = parts[0].shape[1]
    if norm is not None and norm.shape == (columns,):
        return "rows"
    if norm is not None and norm.shape == (columns * len(parts),):
        return "columns"
    size = "there is no norm.weight" if norm is None else f"norm.weight has {norm.shape}"
    raise FormatError(f"{where}: {columns} columns in each of {len(parts)} files, {size}; are the files of one set?")


def _without_copies(where: str, parts: list[Stored], params: Mapping[str, Any]) -> list[Stored]:
    """One slice of each key head: where there are more files than heads, neighbours hold the same."""
    sizes = [params.get(key) for key in ("dim", "n_heads", "n_kv_heads")]
    if not all(type(size) is int and size > 0 for size in sizes):
        return parts
    dim, heads, key_heads = (int(size) for size in sizes if size)
    wanted = key_heads * (dim // heads)
    times, rest = divmod(sum(part.shape[0] for part in parts), wanted or 1)
    if rest or times < 1 or len(parts) % times:
        raise FormatError(f"{where}: {len(parts)} slices of {parts[0].shape[0]} rows; params.json says {wanted} rows")
    return parts[::times]
