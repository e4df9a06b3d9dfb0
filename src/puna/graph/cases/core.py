"""Cases of the core ops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from puna import dtypes
from puna.dtypes import DTYPES
from puna.graph.cases.making import LINEAR_TYPES, ODD, STATE_TYPES, Case, Maker, fixed, symbolic
from puna.graph.ops import apply
from puna.graph.tensor import T, constant, state


def unary(op: str) -> Iterator[Case]:
    """One float32 input."""
    x = Maker().floats(5, 37)
    positive = np.abs(x) if op in ("log", "sqrt") else x
    yield symbolic("rows", op, positive)
    yield symbolic("no rows", op, positive[:0])
    yield fixed("odd values", op, ODD)
    yield fixed("a scalar", op, np.full((), 0.25, np.float32))
    yield fixed("many elements", op, np.abs(Maker().floats(3, 5000)))
    make = Maker()
    yield make.case("a turned view", apply(op, make.input(positive).permute(1, 0)))
    if op in ("neg", "abs"):
        yield fixed("int32", op, np.array([0, 1, -1, 2**31 - 1, -(2**31)], np.int32))


def binary(op: str) -> Iterator[Case]:
    """Two inputs that broadcast."""
    make = Maker()
    a, b = make.floats(5, 37), make.floats(5, 37)
    yield symbolic("rows", op, a, b)
    yield symbolic("no rows", op, a[:0], b[:0])
    yield fixed("a row", op, a, b[0])
    yield fixed("a column and a row", op, a[:, :1], b[:1])
    yield fixed("a scalar", op, np.full((), 2.5, np.float32), b)
    yield fixed("odd values", op, ODD[:, None], ODD[None])
    yield fixed("an axis in the middle", op, make.floats(3, 4, 5), make.floats(3, 1, 5))
    yield make.case("two turned views", apply(op, *(make.input(make.floats(4, 9)).permute(1, 0) for _ in range(2))))
    if op != "div":
        ints = np.array([0, 1, -1, 7, 2**31 - 1, -(2**31)], np.int32)
        yield fixed("int32", op, ints[:, None], ints[None])


def logical(op: str) -> Iterator[Case]:
    """Bools."""
    a = np.array([[False], [True]])
    yield fixed("all combinations", op, *((a, a.reshape(1, 2)) if op == "and" else (a,)))
    yield symbolic("no rows", op, *((a[:0],) * (2 if op == "and" else 1)))


def where(op: str) -> Iterator[Case]:
    """A condition and two of a kind."""
    make = Maker()
    condition = make.floats(6, 1) > 0
    yield symbolic("rows", op, condition, make.floats(6, 7), make.floats(6, 7))
    yield fixed("int32 and a scalar", op, condition, np.arange(7, dtype=np.int32)[None], np.full((), -1, np.int32))
    yield fixed("bool", op, condition, ~condition, condition)
    yield fixed("nan on the other side", op, np.array([True, False]), ODD[3:5], ODD[:2])


def cast(op: str) -> Iterator[Case]:
    """Between the plain types."""
    floats = np.array([0.0, 0.5, 1.5, -1.5, 2.5, 1e6, -0.0, 123456.7], np.float32)
    ints = np.array([0, 1, -1, 16777217, 2**31 - 1, -(2**31)], np.int32)
    for array in (floats, ints, ints > 0):
        for dtype in (dtypes.F32, dtypes.I32, dtypes.BOOL):
            yield symbolic(f"{array.dtype} to {dtype}", op, array, dtype=dtype)


def reshape(op: str) -> Iterator[Case]:
    """Of packed values and of views."""
    make = Maker()
    x = make.floats(6, 4, 10)
    yield symbolic("splits heads", op, x.reshape(6, 40), shape=(T, 4, 10))
    yield symbolic("joins heads", op, x, shape=(T, 40))
    yield symbolic("no rows", op, x[:0], shape=(T, 40))
    yield fixed("to ones", op, x[:1, :1, :1], shape=(1, 1))
    yield make.case("of a turned view", make.input(x).permute(1, 0, 2).reshape(24, 10))
    yield make.case("of part of a row", make.input(x.reshape(6, 40), T).slice(1, 10, 30).reshape(T, 2, 1, 10))
    yield make.case("joins what is apart", make.input(x, T).slice(2, 2, 6).reshape(T, 16))


def permute(op: str) -> Iterator[Case]:
    """All three axes."""
    x = Maker().floats(3, 4, 5)
    yield fixed("turned round", op, x, axes=(2, 1, 0))
    yield symbolic("tokens last", op, x, axes=(1, 2, 0))
    yield symbolic("no rows", op, x[:0], axes=(1, 0, 2))


def slice_(op: str) -> Iterator[Case]:
    """Each axis."""
    make = Maker()
    x = make.floats(3, 4, 5)
    yield symbolic("last axis", op, x, axis=2, start=1, stop=4)
    yield symbolic("middle axis", op, x, axis=1, start=3, stop=4)
    yield fixed("first axis", op, x, axis=0, start=1, stop=3)
    yield symbolic("no rows", op, x[:0], axis=1, start=0, stop=2)
    yield make.case("an axis before the tokens", make.input(x, T).permute(1, 0, 2).reshape(4, T, 5).slice(0, 2, 4))
    copied = make.input(x, T).permute(1, 0, 2) + 1.0
    yield make.case("an axis whose stride depends on the tokens", copied.slice(0, 2, 4))


def concat(op: str) -> Iterator[Case]:
    """Two and three, along each kind of axis."""
    make = Maker()
    x, y = make.floats(3, 4, 5), make.floats(3, 4, 5)
    yield symbolic("last axis", op, x, y, x, axis=2)
    yield symbolic("middle axis", op, x, y[:, :1], axis=1)
    yield fixed("first axis", op, x, y, axis=0)
    yield symbolic("no rows", op, x[:0], y[:0], axis=2)
    parts = (make.input(a, T).permute(1, 0, 2) for a in (x, y))
    yield make.case("an axis before the tokens", apply(op, *parts, axis=0))
    yield fixed("bool", op, x > 0, y > 0, axis=1)


def expand(op: str) -> Iterator[Case]:
    """Axes of length 1."""
    x = Maker().floats(3, 1, 5)
    yield symbolic("middle axis", op, x, shape=(T, 4, 5))
    yield fixed("first axis", op, x[:1], shape=(6, 1, 5))
    yield symbolic("no rows", op, x[:0], shape=(T, 2, 5))


def take(op: str) -> Iterator[Case]:
    """Rows of each dtype."""
    make = Maker()
    index = np.array([2, 0, 2, 3], np.int32)
    for x in (make.floats(4, 7), np.arange(12, dtype=np.int32).reshape(4, 3), make.floats(4, 2, 3) > 0):
        yield make.case(f"{x.dtype}", apply(op, make.input(x), make.input(index, T)))
    yield make.case("elements", apply(op, make.input(np.arange(5, dtype=np.int32)), make.input(index)))
    yield make.case("by a table", apply(op, make.input(make.floats(4, 7)), make.input(index.reshape(2, 2))))
    yield make.case("no rows", apply(op, make.input(make.floats(4, 7)), make.input(index[:0], T)))
    yield make.case("all rows, counted", apply(op, make.input(make.floats(4, 7), T), apply("iota", size=T)))
    turned = make.input(make.floats(7, 4)).permute(1, 0)
    yield make.case("rows of a turned view", apply(op, turned, make.input(index, T)))


def iota(op: str) -> Iterator[Case]:
    """A number and a symbol."""
    make = Maker()
    yield make.case("a number", apply(op, size=5))
    yield make.case("one", apply(op, size=1))


def reduce(op: str) -> Iterator[Case]:
    """Each axis."""
    x = Maker().floats(3, 4, 1000)
    for axis in range(3):
        yield symbolic(f"axis {axis}", op, x, axis=axis)
    yield symbolic("no rows", op, x[:0], axis=2)
    yield fixed("nan in one row", op, np.array([[1, 2, np.nan, 3], [-5, -7, -6, -9]], np.float32), axis=1)
    yield fixed("infinite", op, np.array([[np.inf, 1], [-np.inf, 1]], np.float32), axis=1)


def matmul(op: str) -> Iterator[Case]:
    """Plain, in batches, of views."""
    make = Maker()
    yield fixed("two axes", op, make.floats(5, 33), make.floats(33, 7))
    yield fixed("batches", op, make.floats(2, 3, 4, 8), make.floats(2, 3, 8, 5))
    yield make.case(
        "by a turned view", apply(op, make.input(make.floats(5, 8), T), make.input(make.floats(6, 8)).permute(1, 0))
    )
    yield make.case("no rows", apply(op, make.input(make.floats(0, 8), T), make.input(make.floats(8, 3))))


def dequantize(op: str) -> Iterator[Case]:
    """Weights of every type, states of every type."""
    for name in LINEAR_TYPES:
        make = Maker()
        yield make.case(f"a weight of {name}", apply(op, make.weight(make.floats(3, 256), DTYPES[name])))
    for name in STATE_TYPES:
        make = Maker()
        kept = state("kept", (5, 2, 32), DTYPES[name])
        rows = apply("write", kept, constant(np.arange(3)), make.input(make.floats(3, 2, 32)))
        yield make.case(f"a state of {name}", apply(op, rows))


def write(op: str) -> Iterator[Case]:
    """Into states of every type, of one to three axes."""
    slots = np.array([3, -1, 0], np.int32)
    for name in STATE_TYPES:
        make = Maker()
        kept = state("kept", (5, 2, 64), DTYPES[name])
        yield make.case(f"{name}", apply(op, kept, make.input(slots, T), make.input(make.floats(3, 2, 64), T)))
    for shape in ((5,), (5, 7)):
        make = Maker()
        values = make.input(make.floats(3, *shape[1:]), T)
        yield make.case(f"{len(shape)} axes", apply(op, state("kept", shape, dtypes.F32), make.input(slots, T), values))
    make = Maker()
    values = make.input(make.floats(2, 3, 4)).permute(1, 0, 2)
    yield make.case("of a view", apply(op, state("kept", (5, 2, 4), dtypes.F16), constant(slots), values))
    make = Maker()
    halves = np.array([[65504, 65520, 1e-8, 6e-8, np.inf, -np.inf, 1.0009765, 2049]], np.float32)
    kept = state("kept", (1, 8), dtypes.F16)
    yield make.case("what float16 rounds", apply(op, kept, constant(np.zeros(1, np.int32)), make.input(halves)))
