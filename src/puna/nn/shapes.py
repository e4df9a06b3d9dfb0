"""The same elements seen in another shape, taken apart, put together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from puna.errors import ModelError
from puna.graph import Tensor
from puna.graph.ops import apply


def rows(x: Tensor, index: Tensor) -> Tensor:
    """x[index]: (T, D) and (O,) to (O, D)."""
    return apply("take", x, index)


def concat(axis: int, *parts: Tensor) -> Tensor:
    """The parts one after another along a numbered axis."""
    return apply("concat", *parts, axis=axis)


def heads(x: Tensor, count: int) -> Tensor:
    """(T, count * D) seen as (T, count, D)."""
    tokens, size = x.shape
    if not isinstance(size, int) or size % count:
        raise ModelError(f"heads: {x!r} does not divide into {count} heads")
    return x.reshape(tokens, count, size // count)


def flat(x: Tensor) -> Tensor:
    """(T, H, D) seen as (T, H * D)."""
    tokens, count, size = x.shape
    return x.reshape(tokens, count * size)  # type: ignore[operator]  # both are numbers: only the first axis is symbolic


def split(x: Tensor, axis: int, sizes: Sequence[int]) -> list[Tensor]:
    """Parts of `sizes` along a numbered axis, in order."""
    ends = list(accumulate(sizes))
    return [x.slice(axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def repeated(x: Tensor, count: int) -> Tensor:
    """(T, D) so many times: (T, count, D)."""
    rows, size = x.shape
    return apply("expand", x.reshape(rows, 1, size), shape=(rows, count, size))


def shared_heads(x: Tensor, groups: int, count: int) -> Tensor:
    """(T, groups * D), each group for as many heads: (T, count, D)."""
    tokens, width = x.shape
    size = int(width) // groups  # type: ignore[arg-type]  # only the first axis is symbolic
    grouped = x.reshape(tokens, groups, 1, size)
    return apply("expand", grouped, shape=(tokens, groups, count // groups, size)).reshape(tokens, count, size)
