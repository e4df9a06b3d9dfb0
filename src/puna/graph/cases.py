"""Cases of every op: small graphs with their inputs, from which conformance tests and micro-benchmarks are made.

Each case ends in a node of its op. Weights are given as float32 values and the dtype to store them in; states start at
zero and are filled by `write`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import dtypes
from puna.dtypes import DTYPES, DType
from puna.graph.ops import apply
from puna.graph.tensor import Dim, S, T, Tensor, constant, input_, state, weight

Array = NDArray[Any]
BY_NUMPY = {"f": dtypes.F32, "i": dtypes.I32, "b": dtypes.BOOL}
LINEAR_TYPES = (
    "F32",
    "F16",
    "BF16",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
)
STATE_TYPES = ("F32", "F16", "Q8_0")
ODD = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 88.0, -88.0, 1e30, -1e30, 1e-30, 3.0, -3.0, 0.1], np.float32
)
"""Values at which functions differ."""


@dataclass(slots=True)
class Case:
    """A graph that ends in `node`, what to run it with, and what is special about it."""

    what: str
    node: Tensor
    inputs: dict[str, Array] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)

    @property
    def op(self) -> str:
        """The op it is a case of."""
        return self.node.op

    def __str__(self) -> str:
        return f"{self.op}: {self.what}"


class Maker:
    """Makes leaves and remembers their values."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.inputs: dict[str, Array] = {}
        self.weights: dict[str, Array] = {}

    def floats(self, *shape: int) -> Array:
        """Normal values."""
        return self.rng.standard_normal(shape).astype(np.float32)

    def input(self, values: Array, symbol: Dim | None = None) -> Tensor:
        """An input; its first axis is `symbol` if that is given."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = values
        shape = values.shape if symbol is None else (symbol, *values.shape[1:])
        return input_(name, shape, BY_NUMPY[values.dtype.kind])

    def weight(self, values: Array, dtype: DType = dtypes.F32) -> Tensor:
        """A weight stored in `dtype`."""
        name = f"w{len(self.weights)}"
        self.weights[name] = values
        return weight(name, values.shape, dtype)

    def case(self, what: str, node: Tensor) -> Case:
        """The case that ends in `node`."""
        return Case(what, node, self.inputs, self.weights)


def _symbolic(what: str, op: str, *arrays: Array, **attrs: Any) -> Case:
    make = Maker()
    return make.case(what, apply(op, *(make.input(a, T) for a in arrays), **attrs))


def _fixed(what: str, op: str, *arrays: Array, **attrs: Any) -> Case:
    make = Maker()
    return make.case(what, apply(op, *(make.input(a) for a in arrays), **attrs))


# ---- core ops --------------------------------------------------------------------------------------------------------


def unary(op: str) -> Iterator[Case]:
    """One float32 input."""
    x = Maker().floats(5, 37)
    positive = np.abs(x) if op in ("log", "sqrt") else x
    yield _symbolic("rows", op, positive)
    yield _symbolic("no rows", op, positive[:0])
    yield _fixed("odd values", op, ODD)
    yield _fixed("a scalar", op, np.full((), 0.25, np.float32))
    yield _fixed("many elements", op, np.abs(Maker().floats(3, 5000)))
    make = Maker()
    yield make.case("a turned view", apply(op, make.input(positive).permute(1, 0)))
    if op in ("neg", "abs"):
        yield _fixed("int32", op, np.array([0, 1, -1, 2**31 - 1, -(2**31)], np.int32))


def binary(op: str) -> Iterator[Case]:
    """Two inputs that broadcast."""
    make = Maker()
    a, b = make.floats(5, 37), make.floats(5, 37)
    yield _symbolic("rows", op, a, b)
    yield _symbolic("no rows", op, a[:0], b[:0])
    yield _fixed("a row", op, a, b[0])
    yield _fixed("a column and a row", op, a[:, :1], b[:1])
    yield _fixed("a scalar", op, np.full((), 2.5, np.float32), b)
    yield _fixed("odd values", op, ODD[:, None], ODD[None])
    yield _fixed("an axis in the middle", op, make.floats(3, 4, 5), make.floats(3, 1, 5))
    yield make.case("two turned views", apply(op, *(make.input(make.floats(4, 9)).permute(1, 0) for _ in range(2))))
    if op != "div":
        ints = np.array([0, 1, -1, 7, 2**31 - 1, -(2**31)], np.int32)
        yield _fixed("int32", op, ints[:, None], ints[None])


def logical(op: str) -> Iterator[Case]:
    """Bools."""
    a = np.array([[False], [True]])
    yield _fixed("all combinations", op, *((a, a.reshape(1, 2)) if op == "and" else (a,)))
    yield _symbolic("no rows", op, *((a[:0],) * (2 if op == "and" else 1)))


def where(op: str) -> Iterator[Case]:
    """A condition and two of a kind."""
    make = Maker()
    condition = make.floats(6, 1) > 0
    yield _symbolic("rows", op, condition, make.floats(6, 7), make.floats(6, 7))
    yield _fixed("int32 and a scalar", op, condition, np.arange(7, dtype=np.int32)[None], np.full((), -1, np.int32))
    yield _fixed("bool", op, condition, ~condition, condition)
    yield _fixed("nan on the other side", op, np.array([True, False]), ODD[3:5], ODD[:2])


def cast(op: str) -> Iterator[Case]:
    """Between the plain types."""
    floats = np.array([0.0, 0.5, 1.5, -1.5, 2.5, 1e6, -0.0, 123456.7], np.float32)
    ints = np.array([0, 1, -1, 16777217, 2**31 - 1, -(2**31)], np.int32)
    for array in (floats, ints, ints > 0):
        for dtype in (dtypes.F32, dtypes.I32, dtypes.BOOL):
            yield _symbolic(f"{array.dtype} to {dtype}", op, array, dtype=dtype)


def reshape(op: str) -> Iterator[Case]:
    """Of packed values and of views."""
    make = Maker()
    x = make.floats(6, 4, 10)
    yield _symbolic("splits heads", op, x.reshape(6, 40), shape=(T, 4, 10))
    yield _symbolic("joins heads", op, x, shape=(T, 40))
    yield _symbolic("no rows", op, x[:0], shape=(T, 40))
    yield _fixed("to ones", op, x[:1, :1, :1], shape=(1, 1))
    yield make.case("of a turned view", make.input(x).permute(1, 0, 2).reshape(24, 10))
    yield make.case("of part of a row", make.input(x.reshape(6, 40), T).slice(1, 10, 30).reshape(T, 2, 1, 10))
    yield make.case("joins what is apart", make.input(x, T).slice(2, 2, 6).reshape(T, 16))


def permute(op: str) -> Iterator[Case]:
    """All three axes."""
    x = Maker().floats(3, 4, 5)
    yield _fixed("turned round", op, x, axes=(2, 1, 0))
    yield _symbolic("tokens last", op, x, axes=(1, 2, 0))
    yield _symbolic("no rows", op, x[:0], axes=(1, 0, 2))


def slice_(op: str) -> Iterator[Case]:
    """Each axis."""
    make = Maker()
    x = make.floats(3, 4, 5)
    yield _symbolic("last axis", op, x, axis=2, start=1, stop=4)
    yield _symbolic("middle axis", op, x, axis=1, start=3, stop=4)
    yield _fixed("first axis", op, x, axis=0, start=1, stop=3)
    yield _symbolic("no rows", op, x[:0], axis=1, start=0, stop=2)
    yield make.case("an axis before the tokens", make.input(x, T).permute(1, 0, 2).reshape(4, T, 5).slice(0, 2, 4))
    copied = make.input(x, T).permute(1, 0, 2) + 1.0
    yield make.case("an axis whose stride depends on the tokens", copied.slice(0, 2, 4))


def concat(op: str) -> Iterator[Case]:
    """Two and three, along each kind of axis."""
    make = Maker()
    x, y = make.floats(3, 4, 5), make.floats(3, 4, 5)
    yield _symbolic("last axis", op, x, y, x, axis=2)
    yield _symbolic("middle axis", op, x, y[:, :1], axis=1)
    yield _fixed("first axis", op, x, y, axis=0)
    yield _symbolic("no rows", op, x[:0], y[:0], axis=2)
    parts = (make.input(a, T).permute(1, 0, 2) for a in (x, y))
    yield make.case("an axis before the tokens", apply(op, *parts, axis=0))
    yield _fixed("bool", op, x > 0, y > 0, axis=1)


def expand(op: str) -> Iterator[Case]:
    """Axes of length 1."""
    x = Maker().floats(3, 1, 5)
    yield _symbolic("middle axis", op, x, shape=(T, 4, 5))
    yield _fixed("first axis", op, x[:1], shape=(6, 1, 5))
    yield _symbolic("no rows", op, x[:0], shape=(T, 2, 5))


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
        yield _symbolic(f"axis {axis}", op, x, axis=axis)
    yield _symbolic("no rows", op, x[:0], axis=2)
    yield _fixed("nan in one row", op, np.array([[1, 2, np.nan, 3], [-5, -7, -6, -9]], np.float32), axis=1)
    yield _fixed("infinite", op, np.array([[np.inf, 1], [-np.inf, 1]], np.float32), axis=1)


def matmul(op: str) -> Iterator[Case]:
    """Plain, in batches, of views."""
    make = Maker()
    yield _fixed("two axes", op, make.floats(5, 33), make.floats(33, 7))
    yield _fixed("batches", op, make.floats(2, 3, 4, 8), make.floats(2, 3, 8, 5))
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


# ---- fused ops -------------------------------------------------------------------------------------------------------


def linear(op: str) -> Iterator[Case]:
    """Every weight type; one row, few, many; bias; sizes that fill no panel."""
    for name in LINEAR_TYPES:
        for tokens in (1, 5):
            make = Maker()
            w = make.weight(make.floats(37, 256), DTYPES[name])
            yield make.case(f"{name}, {tokens} rows", apply(op, make.input(make.floats(tokens, 256), T), w, None))
    for tokens, n, k in ((0, 16, 32), (19, 100, 96), (64, 48, 512), (3, 1, 32)):
        make = Maker()
        w, bias = make.weight(make.floats(n, k), dtypes.Q8_0), make.weight(make.floats(n))
        yield make.case(f"{tokens} x {k} to {n} with bias", apply(op, make.input(make.floats(tokens, k), T), w, bias))
    make = Maker()
    x = make.input(make.floats(6, 96), T).slice(1, 32, 96)
    yield make.case("of part of a row", apply(op, x, make.weight(make.floats(20, 64), dtypes.Q4_0), None))
    make = Maker()
    w = make.weight(make.floats(7, 33), dtypes.F32)
    yield make.case(
        "33 columns", apply(op, make.input(make.floats(4, 33), T), w, make.weight(make.floats(7), dtypes.F16))
    )


def embedding(op: str) -> Iterator[Case]:
    """Every weight type."""
    ids = np.array([0, 4, 2, 4], np.int32)
    for name in LINEAR_TYPES:
        make = Maker()
        yield make.case(name, apply(op, make.input(ids, T), make.weight(make.floats(5, 256), DTYPES[name])))
    make = Maker()
    yield make.case("no ids", apply(op, make.input(ids[:0], T), make.weight(make.floats(5, 32), dtypes.Q8_0)))
    yield make.case("a table of ids", apply(op, make.input(ids.reshape(2, 2)), make.weight(make.floats(5, 32))))


def norm(op: str) -> Iterator[Case]:
    """With and without weights, two and three axes, sizes around a vector's."""
    absent = (None,) * (1 if op == "rms_norm" else 2)
    for n in (1, 7, 16, 100, 576):
        make = Maker()
        vectors = [make.weight(make.floats(n)) for _ in absent]
        yield make.case(f"{n} elements", apply(op, make.input(make.floats(3, n) * 3 + 1, T), *vectors, eps=1e-5))
    make = Maker()
    yield make.case("three axes", apply(op, make.input(make.floats(3, 4, 64), T), *absent, eps=1e-6))
    yield make.case("no rows", apply(op, make.input(make.floats(0, 64), T), *absent, eps=1e-6))
    odd = make.floats(4, 24)
    odd[0, 3], odd[1, 23], odd[2] = np.nan, np.inf, 0
    yield make.case("nan, infinity and zeros", apply(op, make.input(odd), *absent, eps=1e-6))
    turned = make.input(make.floats(24, 3)).permute(1, 0)
    yield make.case("of a view", apply(op, turned, *absent, eps=1e-6))


def softmax(op: str) -> Iterator[Case]:
    """Rows, large values, nothing but minus infinity."""
    make = Maker()
    yield _symbolic("rows", op, make.floats(5, 100) * 10)
    yield _symbolic("no rows", op, make.floats(0, 9))
    yield _fixed("three axes", op, make.floats(2, 3, 17))
    yield _fixed("large", op, np.array([[1000, 999, -1000], [-3e38, 3e38, 0]], np.float32))
    infinite = np.array([[0, -np.inf, 1], [-np.inf] * 3, [np.inf, 0, 0], [np.nan, 0, 1]], np.float32)
    yield _fixed("infinite and nan", op, infinite)


def activation(op: str) -> Iterator[Case]:
    """Smooth functions, alone or times a second input."""
    count = 2 if op.endswith("_mul") else 1
    for attrs in ({},) if op.startswith("silu") else ({"approximate": True}, {"approximate": False}):
        make = Maker()
        yield _symbolic(f"rows {attrs or ''}", op, *(make.floats(5, 97) * 3 for _ in range(count)), **attrs)
        yield _symbolic(f"no rows {attrs or ''}", op, *(make.floats(0, 9) for _ in range(count)), **attrs)
        yield _fixed(
            f"odd values {attrs or ''}", op, *((ODD[None], np.ones((1, len(ODD)), np.float32))[:count]), **attrs
        )
        yield _fixed(f"three axes {attrs or ''}", op, *(make.floats(2, 3, 16) for _ in range(count)), **attrs)


def rope(op: str) -> Iterator[Case]:
    """Both styles, all or part of a head, far positions."""
    for style in ("halves", "pairs"):
        for size, half in ((64, 32), (20, 10), (80, 16), (6, 1)):
            make = Maker()
            frequencies = constant(10000.0 ** -(np.arange(half) / half))
            positions = make.input(np.array([0, 1, 77, 4000], np.int32), T)
            x = make.input(make.floats(4, 3, size), T)
            yield make.case(
                f"{style}, {2 * half} of {size}", apply(op, x, positions, frequencies, style=style, scale=1.25)
            )
        make = Maker()
        x, frequencies = make.input(make.floats(0, 3, 8), T), make.weight(make.floats(4))
        yield make.case(
            f"{style}, no rows", apply(op, x, make.input(np.zeros(0, np.int32), T), frequencies, style=style, scale=1.0)
        )
        part = make.input(make.floats(5, 48)).slice(1, 16, 48).reshape(5, 4, 8)
        positions = constant(np.arange(5))
        yield make.case(f"{style}, of a view", apply(op, part, positions, frequencies, style=style, scale=1.0))


def attention_case(
    what: str, runs: Mapping[int, tuple[int, int]], *, heads: tuple[int, int] = (4, 2),
    sizes: tuple[int, int] = (16, 16), dtype: str = "F32", block_size: int = 4, sinks: bool = False, blocks: int = 0,
    **attrs: Any,
) -> Case:  # fmt: skip
    """Tokens of several sequences over filled states. `runs`: by sequence, its length and how many tokens ask."""
    make = Maker()
    columns = blocks or -(-max(length for length, _ in runs.values()) // block_size)
    sequences, capacity = len(runs), len(runs) * columns * block_size
    table = make.rng.permutation(sequences * columns).astype(np.int32).reshape(sequences, columns)
    places = np.arange(columns * block_size)
    written = np.full(capacity, -1, np.int32)
    for s, (length, _) in runs.items():
        slots = table[s, places[:length] // block_size] * block_size + places[:length] % block_size
        written[slots] = slots
    every = constant(written)
    k, v = (
        apply(
            "write",
            state(name, (capacity, heads[1], size), DTYPES[dtype]),
            every,
            make.input(make.floats(capacity, heads[1], size)),
        )
        for name, size in (("k", sizes[0]), ("v", sizes[1]))
    )
    positions = np.concatenate([np.arange(length - n, length) for length, n in runs.values()]).astype(np.int32)
    sequence = np.concatenate([np.full(n, s) for s, (_, n) in runs.items()]).astype(np.int32)
    lengths = np.array([length for length, _ in runs.values()], np.int32)
    q = make.input(make.floats(len(positions), heads[0], sizes[0]), T)
    read = (make.input(positions, T), make.input(sequence, T), make.input(table, S), make.input(lengths, S))
    sink = make.weight(make.floats(heads[0])) if sinks else None
    numbers = {"scale": 0.3, "causal": True, "window": 0, "softcap": 0.0, "block_size": block_size} | attrs
    return make.case(what, apply("attention", q, k, v, *read, sink, **numbers))


def attention(op: str) -> Iterator[Case]:
    """Decode, prefill, ragged batches, every attribute."""
    for dtype in STATE_TYPES:
        yield attention_case(f"decode, {dtype}", {0: (9, 1)}, dtype=dtype, sizes=(32, 32))
        yield attention_case(f"prefill, {dtype}", {0: (70, 70)}, dtype=dtype, sizes=(32, 32))
    yield attention_case("no tokens", {0: (5, 0)})
    yield attention_case("one head, odd sizes", {0: (21, 21)}, heads=(1, 1), sizes=(7, 5))
    yield attention_case("a ragged batch", {0: (33, 5), 1: (1, 1), 2: (80, 3), 3: (17, 17), 4: (64, 1)})
    yield attention_case("a batch of decodes", {s: (3 * s + 1, 1) for s in range(40)})
    yield attention_case("many heads share", {0: (40, 6), 1: (12, 1)}, heads=(12, 1), sizes=(24, 8))
    yield attention_case("not causal", {0: (19, 19), 1: (6, 6)}, causal=False)
    yield attention_case("a window", {0: (50, 50), 1: (30, 1)}, window=8)
    yield attention_case("a window both ways", {0: (50, 50)}, window=5, causal=False)
    yield attention_case("softcap", {0: (20, 4)}, softcap=2.0)
    yield attention_case("sinks", {0: (20, 20), 1: (5, 1)}, sinks=True)
    yield attention_case("sinks, softcap and a window", {0: (90, 3)}, sinks=True, softcap=5.0, window=70)
    yield attention_case("a long context", {0: (1300, 1)}, sizes=(8, 8), block_size=16)
    yield attention_case(
        "long contexts of many", {s: (600 + s, 1) for s in range(3)} | {3: (40, 40)}, sizes=(4, 4), heads=(2, 1)
    )
    yield attention_case("blocks of one", {0: (9, 3)}, block_size=1)
    yield attention_case("a table with room", {0: (9, 3), 1: (2, 2)}, blocks=7)


def top_k(op: str) -> Iterator[Case]:
    """Few and all, equals, infinities."""
    make = Maker()
    yield _symbolic("one of many", op, make.floats(5, 60), count=1)
    yield _symbolic("eight of many", op, make.floats(7, 128), count=8)
    yield _symbolic("all", op, make.floats(3, 4), count=4)
    yield _symbolic("no rows", op, make.floats(0, 9), count=2)
    yield _symbolic("two of each group", op, make.floats(3, 4, 6), count=2)
    yield _symbolic("equals", op, np.floor(make.floats(6, 16)), count=6)
    masked = np.where(make.floats(4, 8) > 0.3, make.floats(4, 8), -np.inf).astype(np.float32)
    yield _symbolic("more than are finite", op, masked, count=7)


def experts(op: str) -> Iterator[Case]:
    """Every weight type; a row for all choices or each; bias; experts nobody chose; sizes that fill no panel."""
    for name in LINEAR_TYPES:
        make = Maker()
        ids = make.input(make.rng.integers(0, 3, (5, 2)).astype(np.int32), T)
        w = make.weight(make.floats(3, 37, 256), DTYPES[name])
        yield make.case(name, apply(op, make.input(make.floats(5, 256), T), w, ids, None))
    for tokens, count, n, k in ((1, 4, 48, 64), (0, 2, 16, 32), (70, 3, 33, 96)):
        make = Maker()
        ids = make.input(make.rng.integers(0, 6, (tokens, count)).astype(np.int32), T)
        w, bias = make.weight(make.floats(7, n, k), dtypes.Q8_0), make.weight(make.floats(7, n))
        x = make.input(make.floats(tokens, count, k), T)
        yield make.case(f"{tokens} x {count} x {k} to {n} with bias", apply(op, x, w, ids, bias))
    make = Maker()
    ids, x = make.input(np.full((40, 1), 1, np.int32), T), make.input(make.floats(40, 96), T).slice(1, 32, 96)
    yield make.case("all to one, of part of a row", apply(op, x, make.weight(make.floats(2, 16, 64)), ids, None))


def convolution_case(what: str, runs: Mapping[int, tuple[int, int]], *, size: int = 12, length: int = 3) -> Case:
    """Tokens of several sequences over filled rows. `runs`: by sequence, its length and how many tokens ask."""
    make, block_size = Maker(), 4
    columns = -(-max(count for count, _ in runs.values()) // block_size)
    table = make.rng.permutation(len(runs) * columns).astype(np.int32).reshape(len(runs), columns)
    capacity = table.size * block_size
    rows = make.input(make.floats(capacity, size))
    kept = apply("write", state("kept", (capacity, size), dtypes.F32), constant(np.arange(capacity)), rows)
    positions = np.concatenate([np.arange(count - n, count) for count, n in runs.values()]).astype(np.int32)
    sequence = np.concatenate([np.full(n, s) for s, (_, n) in runs.items()]).astype(np.int32)
    read = (make.input(positions, T), make.input(sequence, T), make.input(table, S))
    weights = make.weight(make.floats(size, length))
    return make.case(what, apply("causal_conv1d", kept, weights, *read, block_size=block_size))


def causal_conv1d(op: str) -> Iterator[Case]:
    """From the first token on, one by one, many sequences, a kernel longer than the text."""
    yield convolution_case("a prefill", {0: (21, 21)})
    yield convolution_case("decode", {0: (9, 1), 1: (1, 1), 2: (2, 1)})
    yield convolution_case("a ragged batch", {0: (30, 7), 1: (5, 5), 2: (13, 1)}, size=37, length=4)
    yield convolution_case("longer than the text", {0: (2, 2)}, length=6)
    yield convolution_case("no tokens", {0: (5, 0)}, length=1)


CASES: dict[str, Callable[[str], Iterator[Case]]] = {
    **dict.fromkeys(("neg", "abs", "exp", "log", "sqrt", "sin", "cos", "tanh", "erf"), unary),
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum", "less", "equal"), binary),
    **dict.fromkeys(("and", "not"), logical),
    **dict.fromkeys(("sum", "max"), reduce),
    **dict.fromkeys(("rms_norm", "layer_norm"), norm),
    **dict.fromkeys(("silu", "gelu", "silu_mul", "gelu_mul"), activation),
    "where": where, "cast": cast, "reshape": reshape, "permute": permute, "slice": slice_, "concat": concat,
    "expand": expand, "take": take, "iota": iota, "matmul": matmul, "dequantize": dequantize, "write": write,
    "linear": linear, "embedding": embedding, "softmax": softmax, "rope": rope, "attention": attention,
    "top_k": top_k, "experts": experts, "causal_conv1d": causal_conv1d,
}  # fmt: skip
"""What makes the cases of each op."""


def cases(op: str) -> list[Case]:
    """All cases of an op."""
    return list(CASES[op](op))
