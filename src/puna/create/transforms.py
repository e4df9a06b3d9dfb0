"""What each kind of `puna.arch.transform` does to shapes and to values.

It reads no file. Where a kind only moves rows, it works on stored rows of any type, quantized blocks among them; where
it only moves elements, on stored elements of any plain type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.arch.transform import Transform
from puna.errors import ConversionError

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """`shape` and `apply` take a shape or an array, and the transform's numbers; `why` is what a report says.

    `moves`: "rows" (along `row_axis` only), "elements", or "" where values change, one by one. `needs` names the shape
    that would fit where the given one does not.
    """

    why: str
    moves: str
    shape: Callable[..., Shape]
    apply: Callable[..., Array]
    needs: Callable[..., str] = lambda *_: ""


def row_axis(ndim: int) -> int:
    """The axis of "rows": of a vector its only one, else the last but one."""
    return max(ndim - 2, 0)


def _permute_rope(array: Array, heads: int) -> Array:
    axis = row_axis(array.ndim)
    before, count, after = array.shape[:axis], array.shape[axis], array.shape[axis + 1 :]
    halves = array.reshape(*before, heads, 2, count // heads // 2, *after)
    return halves.swapaxes(axis + 1, axis + 2).reshape(array.shape)


def _rows(array: Array, start: int, stop: int, step: int) -> Array:
    return array[(slice(None),) * row_axis(array.ndim) + (slice(start, stop, step),)]


def _pad_rows(array: Array, count: int) -> Array:
    missing = max(count - array.shape[0], 0)
    return np.concatenate([array, np.repeat(array[:1], missing, 0)]) if missing else array


def _regroup(array: Array, groups: int, *sizes: int) -> Array:
    axis = row_axis(array.ndim)
    whole = array.reshape(*array.shape[:axis], groups, sum(sizes), *array.shape[axis + 1 :])
    ends = np.cumsum(sizes)
    parts = [np.take(whole, range(end - size, end), axis + 1) for size, end in zip(sizes, ends, strict=True)]
    return np.concatenate([part.reshape(*array.shape[:axis], -1, *array.shape[axis + 1 :]) for part in parts], axis)


def _regroup_after(array: Array, start: int, groups: int, *sizes: int) -> Array:
    axis = row_axis(array.ndim)
    first, rest = _rows(array, 0, start, 1), _rows(array, start, array.shape[axis], 1)
    return np.concatenate([first, _regroup(rest, groups, *sizes)], axis)


def _last_rows(array: Array, count: int) -> Array:
    rows = array.shape[row_axis(array.ndim)]
    return _rows(array, rows - count, rows, 1)


def _scale_rows(array: Array, *parts: float) -> Array:
    factors = np.repeat(np.array(parts[1::2], array.dtype), [int(count) for count in parts[::2]])
    scaled: Array = array * factors.reshape(-1, *[1] * (array.ndim - 1 - row_axis(array.ndim)))
    return scaled


def _same(shape: Shape, *_: float) -> Shape:
    return shape


def _rows_shape(shape: Shape, start: int, stop: int, step: int) -> Shape:
    axis = row_axis(len(shape))
    return (*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :])


def _reshaped(shape: Shape, *wanted: int) -> Shape:
    known = prod(size for size in wanted if size >= 0)
    return tuple(prod(shape) // known if size < 0 else size for size in wanted)


def _unit(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1) or (1,)


def _leading(shape: Shape) -> Shape:
    return tuple(size for size in shape[:-1] if size != 1)


def _multiple(count: int, of: int) -> str:
    return "" if count and count % of == 0 else f"a multiple of {of} rows"


def _two(shape: Shape) -> str:
    return "" if len(shape) >= 2 else "two dimensions or more"


def _count(shape: Shape) -> int:
    return shape[row_axis(len(shape))] if shape else 0


KINDS: dict[str, Kind] = {
    "permute_rope": Kind(
        "ggml turns neighbours, HF turns halves",
        "rows",
        _same,
        _permute_rope,
        lambda s, heads: _multiple(_count(s), 2 * heads),
    ),
    "rows": Kind(
        "a part of a fused tensor",
        "rows",
        _rows_shape,
        _rows,
        lambda s, start, stop, step: "" if 0 <= start < stop <= _count(s) else f"at least {stop} rows",
    ),
    "last_rows": Kind(
        "a part of a fused tensor",
        "rows",
        lambda s, count: _rows_shape(s, 0, count, 1),
        _last_rows,
        lambda s, count: "" if count <= _count(s) else f"at least {count} rows",
    ),
    "pad_rows": Kind(
        "tokens without a row of their own have the first",
        "elements",
        lambda s, count: (max(s[0], count), *s[1:]),
        _pad_rows,
    ),
    "regroup": Kind(
        "fused parts are interleaved by group",
        "rows",
        _same,
        _regroup,
        lambda s, groups, *sizes: "" if _count(s) == groups * sum(sizes) else f"{groups * sum(sizes)} rows",
    ),
    "regroup_after": Kind(
        "heads are interleaved by group",
        "rows",
        _same,
        _regroup_after,
        lambda s, start, groups, *sizes: "" if _count(s) == (n := start + groups * sum(sizes)) else f"{n} rows",
    ),
    "transpose": Kind(
        "stored as (in, out)", "elements", lambda s: (*s[:-2], s[-1], s[-2]), lambda a: a.swapaxes(-1, -2), _two
    ),
    "split_heads": Kind(
        "a matrix for each head",
        "elements",
        lambda s, heads: (heads, s[0] // heads, *s[1:]),
        lambda a, heads: a.reshape(heads, a.shape[0] // heads, *a.shape[1:]),
        lambda s, heads: _multiple(s[0], heads),
    ),
    "join_heads": Kind(
        "one matrix for all heads",
        "elements",
        lambda s: (s[0] * s[1], *s[2:]),
        lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]),
        _two,
    ),
    "squeeze": Kind("axes of size 1 mean nothing", "elements", _unit, lambda a: a.reshape(_unit(a.shape))),
    "reshape": Kind(
        "the same elements in another shape",
        "elements",
        _reshaped,
        lambda a, *wanted: a.reshape(wanted),
        lambda s, *wanted: "" if prod(_reshaped(s, *wanted)) == prod(s) else f"as many elements as {wanted}",
    ),
    "apart": Kind(
        "vectors that are mixed by broadcasting",
        "elements",
        lambda s: (*_leading(s), 1, 1, s[-1]),
        lambda a: a.reshape(*_leading(a.shape), 1, 1, a.shape[-1]),
    ),
    "plus_one": Kind("the norm multiplies by 1 + w", "", _same, lambda a: a + a.dtype.type(1)),
    "negative_exp": Kind("A is -exp(A_log)", "", _same, lambda a: -np.exp(a)),
    "scale": Kind("a multiplier of the model", "", _same, lambda a, factor: a * a.dtype.type(factor)),
    "scale_rows": Kind(
        "multipliers of the model",
        "",
        _same,
        _scale_rows,
        lambda s, *parts: "" if _count(s) == sum(parts[::2]) else f"{sum(parts[::2])} rows",
    ),
    "tanh": Kind("the gate multiplies by tanh(w)", "", _same, np.tanh),
}
"""Every kind by name."""


def moves_rows(transforms: Iterable[Transform]) -> bool:
    """Whether nothing but rows move, along one axis."""
    return all(KINDS[each.kind].moves == "rows" for each in transforms)


def moves_only(transforms: Iterable[Transform]) -> bool:
    """Whether elements keep their values."""
    return all(KINDS[each.kind].moves for each in transforms)


def apply(transforms: Iterable[Transform], array: Array) -> Array:
    """Do them all, from left to right; a view of `array` where that is possible."""
    for each in transforms:
        array = KINDS[each.kind].apply(array, *each.arguments)
    return array


def shape_after(transforms: Iterable[Transform], shape: Shape, name: str) -> Shape:
    """The shape of `name` once they are all done; ConversionError where one does not fit."""
    for each in transforms:
        kind = KINDS[each.kind]
        if works := kind.needs(shape, *each.arguments):
            fits = f"{each} cannot be done to {shape}; {works} would work"
            raise ConversionError(f"converting '{name}': the tensors' shapes do not fit config.json: {fits}")
        shape = kind.shape(shape, *each.arguments)
    return shape


def why(transforms: Iterable[Transform]) -> str:
    """The reasons, for a reader."""
    return "; ".join(KINDS[each.kind].why for each in transforms)
