"""Adapters to choose from as weights: at each place that any of them changes, their matrices after each other.

Ranks are filled up with zeros to the largest. It knows no sequences; `puna.graph.adapt_each` reads the stacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puna import dtypes
from puna.dtypes import F32, DType, Stored
from puna.engine.adapters import Scaled
from puna.errors import ModelError
from puna.formats.lora import Adapter, Pair, place_of
from puna.graph import weight
from puna.graph.adapt import Place
from puna.graph.adapt_each import Stack

_BITS = {dtypes.F16: "<u2", dtypes.BF16: "<u2", F32: "<u4"}


@dataclass(frozen=True)
class _Stacked:
    """Matrices after each other along the first axis, each filled up to `each` with zeros (a `puna.dtypes.Stored`)."""

    members: Sequence[Stored]
    each: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: DType

    def numpy(self) -> NDArray[np.float32]:
        """float32."""
        return self._filled("<f4", [np.asarray(member.numpy(), "<f4") for member in self.members])

    @property
    def raw(self) -> NDArray[np.uint8]:
        """As the members are stored, or float32."""
        if any(member.dtype is not self.dtype for member in self.members):
            return self.numpy().reshape(-1).view(np.uint8)
        kind = _BITS[self.dtype]
        parts = [member.raw.reshape(-1).view(kind).reshape(member.shape) for member in self.members]
        return self._filled(kind, parts).reshape(-1).view(np.uint8)

    def _filled(self, kind: str, parts: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        out = np.zeros((len(parts), *self.each), kind)
        for row, part in zip(out, parts, strict=True):
            row[tuple(slice(size) for size in part.shape)] = part
        return out.reshape(self.shape)


def check_choosable(adapter: Adapter) -> None:
    """ModelError where a change is no sum, so that one program cannot add it for some sequences only."""
    what, name = f"adapter {adapter.source.name}", next(iter(adapter.whole), None)
    if name:
        raise ModelError(
            f"{what}: it replaces '{name}' as a whole, so requests cannot choose it; given when the model is loaded, "
            "or merged, it works"
        )
    if any(pair.magnitude is not None for pair in adapter.pairs.values()):
        raise ModelError(f"{what}: it is a DoRA, which is no sum; merging works")


def strength(adapter: Adapter) -> float:
    """What most of an adapter's changes are multiplied by, its alpha over its rank."""
    return Counter(pair.scale for pair in adapter.pairs.values()).most_common(1)[0][0] if adapter.pairs else 1.0


def stack(
    adapters: Mapping[int, Adapter], tensors: Mapping[str, Stored]
) -> tuple[dict[str, Stored], dict[Place, Stack]]:
    """The weights and the places of `adapters` by number, from 1 on, for a base with `tensors`.

    Changes are stacked without their adapter's `strength`.
    """
    changed: dict[Place, dict[int, Pair]] = {}
    for number, adapter in adapters.items():
        usual = strength(adapter)
        for name, pair in adapter.pairs.items():
            b = pair.b if pair.scale == usual else Scaled(pair.b, pair.scale / usual)
            place = pair.op, place_of(name, tensors)
            changed.setdefault(place, {})[number] = Pair(pair.a, b, usual, pair.lookup)
    weights: dict[str, Stored] = {}
    stacks: dict[Place, Stack] = {}
    for (op, name), pairs in changed.items():
        names = tuple(f"adapters.{op}.{name}.lora_{part}" for part in "ab")
        a, b = _stacked([*pairs.values()])
        weights |= zip(names, (a, b), strict=True)
        order = {number: i for i, number in enumerate(pairs)}
        rows = tuple(order.get(number, -1) for number in range(max(adapters) + 1))
        stacks[op, name] = Stack(weight(names[0], a.shape, a.dtype), weight(names[1], b.shape, b.dtype), rows)
    return weights, stacks


def _stacked(pairs: Sequence[Pair]) -> tuple[_Stacked, _Stacked]:
    rank, first, count = max(pair.rank for pair in pairs), pairs[0], len(pairs)
    a_each = (*first.a.shape[:-1], rank) if first.lookup else (*first.a.shape[:-2], rank, first.a.shape[-1])
    b_each = (*first.b.shape[:-1], rank)

    def joined(members: Sequence[Stored], each: tuple[int, ...], rows: bool) -> _Stacked:
        shape = (count * each[0], *each[1:]) if rows or len(each) == 3 else (count, *each)
        kinds = {member.dtype for member in members}
        kind = kinds.pop() if len(kinds) == 1 else F32
        return _Stacked(members, each, shape, kind if kind in _BITS else F32)

    a = joined([pair.a for pair in pairs], a_each, first.lookup)
    return a, joined([pair.b for pair in pairs], b_each, False)
