"""Pairs of matrices on their way from PEFT's modules to GGUF's tensors: moved, cut and stacked as the base's rows are.

It knows no files; what a base's tensors go through is its architecture's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.arch.base import Architecture, Target, Transform
from puna.create.computed import Computed
from puna.create.transforms import apply, moves_rows, shape_after
from puna.dtypes import BF16, F16, F32, DType, Stored
from puna.errors import ConversionError
from puna.formats.lora import LOOKUP, Pair

Array = NDArray[Any]


@dataclass
class Module:
    """The parts of one module in an adapter's file, by the names PEFT gives them."""

    name: str
    parts: dict[str, Stored] = field(default_factory=dict)


class Pairs:
    """The pairs of an adapter while they are made; those of experts come one by one and are stacked."""

    def __init__(self, root: Path, arch: Architecture, hp: Any, *, fan_in_fan_out: bool) -> None:
        self._root = root
        self._arch = arch
        self._hp = hp
        self._fan_in_fan_out = fan_in_fan_out
        self._found: dict[str, dict[int | None, Pair]] = {}

    def add(self, target: Target, found: Module, scale: float) -> None:
        """One module's A and B, as one tensor of the base, or a part of it, wants them."""
        lookup = target.name == LOOKUP
        kinds = ("lora_embedding_A", "lora_embedding_B") if lookup else ("lora_A", "lora_B")
        if missing := [kind for kind in kinds if kind not in found.parts]:
            has = ", ".join(found.parts)
            raise ConversionError(f"reading {self._root}: '{found.name}' has {has}, but no {missing[0]}")
        a, b = (found.parts[kind] for kind in kinds)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
            raise ConversionError(
                f"reading {self._root}: '{found.name}' has A {a.shape} and B {b.shape}; their ranks must agree"
            )
        magnitude = found.parts.get("lora_magnitude_vector")
        if lookup:
            a = Computed(a.shape[::-1], plain(a.dtype), partial(_turned, a))
        else:
            moves = self._moves(target.name)
            b = transformed(target.name, b, plain(b.dtype), moves)
            magnitude = None if magnitude is None else transformed(target.name, _flat(magnitude), F32, moves)
        self._found.setdefault(target.name, {})[target.place] = Pair(a, b, scale, lookup, magnitude)

    def _moves(self, name: str) -> tuple[Transform, ...]:
        """What is done to the rows of the base and so of B, which is the right way though the base be (in, out)."""
        transforms = self._arch.transforms(name, self._hp)
        if self._fan_in_fan_out and transforms[:1] == (Transform("transpose"),):
            transforms = transforms[1:]
        if not moves_rows(transforms):
            done = ", ".join(map(str, transforms))
            raise ConversionError(f"reading {self._root}: a change of '{name}' cannot be converted, for {done} is done")
        return transforms

    def pairs(self) -> dict[str, Pair]:
        """All of them; ConversionError where some experts are missing, or differ in what a stack has once."""
        return {name: self._whole(name, places) for name, places in self._found.items()}

    def _whole(self, name: str, places: Mapping[int | None, Pair]) -> Pair:
        if None in places:
            return places[None]
        parts = [places[i] for i in range(len(places)) if i in places]
        first = parts[0] if parts else None
        if first is None or len(parts) < len(places):
            raise ConversionError(f"reading {self._root}: '{name}': it changes some experts; a change of all works")
        if any((p.shape, p.rank, p.scale) != (first.shape, first.rank, first.scale) or p.magnitude for p in parts):
            raise ConversionError(
                f"reading {self._root}: '{name}': experts differ in rank, alpha or shape, or are DoRA"
            )
        a, b = ([getattr(part, side) for part in parts] for side in "ab")
        return Pair(_stacked(a), _stacked(b), first.scale)


def _turned(matrix: Stored) -> Array:
    return matrix.numpy().T


def _stacked(matrices: list[Stored]) -> Stored:
    shape = (len(matrices), *matrices[0].shape)
    return Computed(shape, plain(matrices[0].dtype), lambda: np.stack([matrix.numpy() for matrix in matrices]))


def _flat(vector: Stored) -> Stored:
    """Older files have a DoRA's magnitudes as a matrix of one row or column."""
    size = max(vector.shape, default=0)
    return vector if len(vector.shape) == 1 else Computed((size,), F32, lambda: vector.numpy().reshape(size))


def transformed(name: str, tensor: Stored, dtype: DType, transforms: tuple[Transform, ...]) -> Stored:
    """A tensor as it is, or after `transforms` and in `dtype`; ConversionError where its shape does not fit them."""
    if not transforms:
        return tensor
    shape = shape_after(transforms, tuple(tensor.shape), name)
    return Computed(shape, dtype, lambda: apply(transforms, tensor.numpy()))


def plain(dtype: DType) -> DType:
    """The type itself where GGUF has it as a plain float, else float32."""
    return dtype if dtype in (F32, F16, BF16) else F32
