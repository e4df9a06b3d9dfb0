"""LoRA adapters, as GGUF files hold them: pairs of small matrices whose product is added to a base model's weights.

    general.type = "adapter"    adapter.type = "lora"    general.architecture    adapter.lora.alpha (float32)
    <weight>.lora_a             (rank, columns); of token_embd.weight (rows, rank)
    <weight>.lora_b             (rows, rank);    of token_embd.weight (columns, rank)
    <norm>.weight               takes the place of the base's

The change is alpha / rank * B A, or of token_embd.weight alpha / rank * A B^T; an alpha of 0 is scale 1. Experts
have one more axis in front. It knows no architecture: the base's tensors are handed to `check_fits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import Stored
from puna.errors import FormatError, ModelError
from puna.formats.gguf import open_gguf

LOOKUP = "token_embd.weight"
"""The weight whose rows are looked up: its A is stored with a row for each token."""
OUTPUT = "output.weight"
"""The weight that models without it take from `LOOKUP`."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """The change of one weight: scale * B A, or with `lookup` scale * A B^T.

    `magnitude`: what the length of each row of the changed weight is set to (DoRA).
    """

    a: Stored
    b: Stored
    scale: float
    lookup: bool = False
    magnitude: Stored | None = None

    @property
    def rank(self) -> int:
        """The inner dimension."""
        return self.b.shape[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that it changes."""
        rows, columns = (self.a.shape[-2], self.b.shape[-2]) if self.lookup else (self.b.shape[-2], self.a.shape[-1])
        return (*self.b.shape[:-2], rows, columns)

    @property
    def op(self) -> str:
        """The op that reads the weight it changes."""
        return "embedding" if self.lookup else "experts" if len(self.b.shape) == 3 else "linear"

    def factors(self) -> tuple[Array, Array]:
        """Two float32 matrices, (rows, rank) and (rank, columns), whose product is the change."""
        a, b = self.a.numpy(), self.b.numpy()
        left, right = (a, b.swapaxes(-1, -2)) if self.lookup else (b, a)
        return left, right * np.float32(self.scale)


@dataclass(frozen=True)
class Adapter:
    """An adapter: `pairs` by the name of the weight they change, and `whole` tensors that replace the base's."""

    source: Path
    arch: str
    pairs: Mapping[str, Pair]
    whole: Mapping[str, Stored]


def open_lora(path: str | PathLike[str]) -> Adapter:
    """Open a GGUF adapter; FormatError names the key or tensor that is wrong."""
    gguf, name = open_gguf(path), Path(path).name
    arch, alpha = _checked_metadata(name, gguf.metadata)
    pairs = {
        weight: _pair(name, weight, gguf.tensors, alpha)
        for weight in dict.fromkeys(t.rpartition(".")[0] for t in gguf.tensors if t.endswith((".lora_a", ".lora_b")))
    }
    rest = {n: t for n, t in gguf.tensors.items() if not n.endswith((".lora_a", ".lora_b"))}
    for tensor in rest:
        if not tensor.endswith("_norm.weight"):
            raise FormatError(f"reading {name}: tensor '{tensor}' is no part of a LoRA; .lora_a, .lora_b and norms are")
    if not gguf.tensors:
        raise FormatError(f"reading {name}: the adapter has no tensors")
    return Adapter(Path(path), arch, pairs, rest)


def _checked_metadata(name: str, metadata: Mapping[str, Any]) -> tuple[str, float]:
    kind, form = metadata.get("general.type"), metadata.get("adapter.type")
    if (kind, form) != ("adapter", "lora"):
        raise FormatError(
            f"reading {name}: 'general.type' is {kind!r} and 'adapter.type' {form!r}; 'adapter' and 'lora' work"
        )
    if "adapter.alora_invocation_tokens" in metadata:
        raise FormatError(f"reading {name}: it is an activated LoRA (aLoRA), which is not supported; a plain one works")
    arch, alpha = metadata.get("general.architecture"), metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(arch, str) or not arch:
        raise FormatError(f"reading {name}: the file has no 'general.architecture'")
    if not isinstance(alpha, int | float) or not isfinite(alpha):
        raise FormatError(f"reading {name}: 'adapter.lora.alpha' is {alpha!r}; a number is needed")
    return arch, float(alpha)


def _pair(name: str, weight: str, tensors: Mapping[str, Stored], alpha: float) -> Pair:
    parts = [f"{weight}.lora_a", f"{weight}.lora_b"]
    if missing := [part for part in parts if part not in tensors]:
        raise FormatError(f"reading {name}: tensor '{missing[0]}' is missing; a LoRA has both")
    a, b = (tensors[part] for part in parts)
    lookup = weight == LOOKUP
    dims = {len(a.shape), len(b.shape)}
    inner = (a.shape[-1:] if lookup else a.shape[-2:-1], b.shape[-1:])
    if dims not in ({2}, {3}) or a.shape[:-2] != b.shape[:-2] or inner[0] != inner[1] or not all(inner[1]):
        raise FormatError(f"reading {name}: '{weight}' has A {a.shape} and B {b.shape}; their ranks do not agree")
    if wrong := next((t for t in (a, b) if not (t.dtype.is_float or t.dtype.quantized)), None):
        raise FormatError(f"reading {name}: '{weight}' has type {wrong.dtype}; floating-point types work")
    return Pair(a, b, alpha / b.shape[-1] if alpha else 1.0, lookup)


def check_fits(adapter: Adapter, arch: str, tensors: Mapping[str, Stored]) -> None:
    """ModelError where an adapter is made for another architecture, or for weights that the base does not have."""
    what = f"adapter {adapter.source.name}"
    if adapter.arch != arch:
        raise ModelError(f"{what}: it is made for '{adapter.arch}', the base is '{arch}'; one made for this base works")
    shapes = {name: pair.shape for name, pair in adapter.pairs.items()}
    shapes |= {name: tensor.shape for name, tensor in adapter.whole.items()}
    for name, shape in shapes.items():
        base = tensors.get(place_of(name, tensors))
        if base is None:
            raise ModelError(f"{what}: the base has no tensor '{name}'; an adapter made for this base works")
        if tuple(base.shape) != tuple(shape):
            raise ModelError(f"{what}: it changes '{name}' of {shape}; the base's is {tuple(base.shape)}")


def place_of(name: str, tensors: Mapping[str, Stored]) -> str:
    """The tensor that a change to `name` is added to; without an output of its own, a model's embedding serves."""
    return LOOKUP if name == OUTPUT and name not in tensors else name
