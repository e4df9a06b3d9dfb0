"""Cases of the ops with memory per sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from puna import dtypes
from puna.graph.cases.making import Case, Maker
from puna.graph.ops import apply
from puna.graph.tensor import S, T, Tensor, constant, state


def _memory(make: Maker, counts: Sequence[int], *shape: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """A filled state, and where sequences with so many tokens have their memory.

    The first starts from nothing, the second goes on in its own slot, all others leave theirs and take a new one.
    """
    slots, count = 2 * len(counts) + 1, len(counts)
    values = make.input(make.floats(slots, *shape))
    kept = apply("write", state("kept", (slots, *shape), dtypes.F32), constant(np.arange(slots)), values)
    before, after = np.arange(count, dtype=np.int32), 2 * count - np.arange(count, dtype=np.int32)
    before[:1], after[1:2] = -1, before[1:2]
    sequence = np.repeat(np.arange(count), counts).astype(np.int32)
    return kept, (make.input(sequence, T), make.input(before, S), make.input(after, S))


def convolution_case(what: str, counts: Sequence[int], *, size: int = 12, length: int = 3) -> Case:
    """Tokens of several sequences, so many of each."""
    make = Maker()
    kept, places = _memory(make, counts, length - 1, size)
    x, w = make.input(make.floats(sum(counts), size), T), make.weight(make.floats(size, length))
    return make.case(what, apply("causal_conv1d", kept, x, w, *places))


def causal_conv1d(op: str) -> Iterator[Case]:
    """From nothing, one by one, many sequences, a kernel longer than the text, channels that fill no vector."""
    yield convolution_case("a prefill", [21])
    yield convolution_case("decode", [1, 1, 1])
    yield convolution_case("a ragged batch", [7, 5, 1, 2], size=37, length=4)
    yield convolution_case("longer than the text", [2, 3, 1], length=6)
    yield convolution_case("many channels", [3, 18], size=1100, length=4)
    yield convolution_case("sequences without tokens", [0, 2, 0, 1], length=2)
    yield convolution_case("no tokens", [0], length=2)
    make = Maker()
    kept, places = _memory(make, [4, 2], 3, 24)
    part = make.input(make.floats(6, 80), T).slice(1, 8, 32)
    yield make.case("of part of a row", apply(op, kept, part, make.weight(make.floats(24, 4)), *places))


def recurrence_case(
    what: str, counts: Sequence[int], *, heads: int = 3, sizes: tuple[int, int] = (8, 16), one: bool = False,
    rates: int = 0, rank: bool = False, shared: bool = False,
) -> Case:  # fmt: skip
    """Tokens of several sequences: `one` decay a head, `rates` so wide, a matrix of `rank` 1 more, `shared` r and k."""
    make, tokens = Maker(), sum(counts)
    size, width = sizes
    kept, places = _memory(make, counts, heads, size, width)

    def rows(wide: int, many: int = heads) -> Tensor:
        given = make.input(make.floats(tokens, many, wide) * 0.5, T)
        return given if many == heads else apply("expand", given, shape=(T, heads, wide))

    r, k = (rows(size, 1 if shared else heads) for _ in range(2))
    decay = make.input(make.rng.uniform(0.2, 1, (tokens, heads, 1 if one else size)).astype(np.float32), T)
    a, b = (rows(size), rows(size)) if rank else (None, None)
    falling = make.weight(-make.rng.uniform(0.1, 3, (heads, rates)).astype(np.float32)) if rates else None
    return make.case(what, apply("recurrence", kept, r, decay, k, rows(width), a, b, falling, *places))


def recurrence(op: str) -> Iterator[Case]:
    """What each kind of model asks for, decode and prefill; sizes that fill no vector."""
    yield recurrence_case("a prefill", [21])
    yield recurrence_case("decode", [1, 1, 1], sizes=(16, 32))
    yield recurrence_case("a ragged batch", [7, 5, 1, 2], sizes=(5, 37))
    yield recurrence_case("a matrix added", [6, 1, 3], sizes=(16, 16), rank=True)
    yield recurrence_case("a matrix added, one decay", [6, 1, 3], sizes=(33, 19), rank=True, one=True)
    yield recurrence_case("one decay, rates, shared", [9, 2, 1], sizes=(64, 16), one=True, rates=1, shared=True)
    yield recurrence_case("one value, rates", [9, 2, 1], heads=21, sizes=(16, 1), one=True, rates=16, shared=True)
    yield recurrence_case("one value, few rates", [3, 1], heads=5, sizes=(3, 1), one=True, rates=3)
    yield recurrence_case("one value, a matrix added", [3, 2], heads=5, sizes=(6, 1), rank=True)
    yield recurrence_case("sequences without tokens", [0, 2, 0, 1])
    yield recurrence_case("no tokens", [0])
    yield recurrence_case("wide", [2, 5], heads=2, sizes=(128, 128), rank=True, one=True)
    make = Maker()
    kept, places = _memory(make, [4, 2], 2, 8, 8)
    whole = make.input(make.floats(6, 64), T)
    parts = [whole.slice(1, 16 * i, 16 * i + 16).reshape(T, 2, 8) for i in range(4)]
    yield make.case("of parts of rows", apply(op, kept, *parts, None, None, None, *places))
