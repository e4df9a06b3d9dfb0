"""Cases of the fused ops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from puna import dtypes
from puna.dtypes import DTYPES
from puna.graph.cases.making import LINEAR_TYPES, ODD, STATE_TYPES, Case, Maker, fixed, symbolic
from puna.graph.ops import apply
from puna.graph.tensor import S, T, constant, state


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
    yield symbolic("rows", op, make.floats(5, 100) * 10)
    yield symbolic("no rows", op, make.floats(0, 9))
    yield fixed("three axes", op, make.floats(2, 3, 17))
    yield fixed("large", op, np.array([[1000, 999, -1000], [-3e38, 3e38, 0]], np.float32))
    infinite = np.array([[0, -np.inf, 1], [-np.inf] * 3, [np.inf, 0, 0], [np.nan, 0, 1]], np.float32)
    yield fixed("infinite and nan", op, infinite)


def activation(op: str) -> Iterator[Case]:
    """Smooth functions, alone or times a second input."""
    count = 2 if op.endswith("_mul") else 1
    for attrs in ({},) if not op.startswith("gelu") else ({"approximate": True}, {"approximate": False}):
        make = Maker()
        yield symbolic(f"rows {attrs or ''}", op, *(make.floats(5, 97) * 3 for _ in range(count)), **attrs)
        yield symbolic(f"no rows {attrs or ''}", op, *(make.floats(0, 9) for _ in range(count)), **attrs)
        yield fixed(
            f"odd values {attrs or ''}", op, *((ODD[None], np.ones((1, len(ODD)), np.float32))[:count]), **attrs
        )
        yield fixed(f"three axes {attrs or ''}", op, *(make.floats(2, 3, 16) for _ in range(count)), **attrs)


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
    reach: int | None = None, **attrs: Any,
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
    bias = (make.weight(make.floats(heads[0], 2 * reach + 1)),) if reach is not None else ()
    numbers = {"scale": 0.3, "causal": True, "window": 0, "softcap": 0.0, "block_size": block_size} | attrs
    return make.case(what, apply("attention", q, k, v, *read, sink, *bias, **numbers))


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
    yield attention_case("chunks", {0: (50, 50), 1: (30, 1), 2: (17, 2)}, chunk=8)
    yield attention_case("chunks both ways", {0: (50, 50)}, chunk=7, causal=False)
    yield attention_case("softcap", {0: (20, 4)}, softcap=2.0)
    yield attention_case("sinks", {0: (20, 20), 1: (5, 1)}, sinks=True)
    yield attention_case("sinks, softcap and a window", {0: (90, 3)}, sinks=True, softcap=5.0, window=70)
    yield attention_case("a bias", {0: (20, 20), 1: (9, 1)}, reach=6)
    yield attention_case("a bias both ways, and a softcap", {0: (23, 23)}, reach=30, causal=False, softcap=4.0)
    yield attention_case("a bias of one distance", {0: (20, 2)}, reach=0, sinks=True)
    yield attention_case("a bias, decodes", {0: (700, 1), 1: (9, 1), 2: (130, 2)}, heads=(6, 2), reach=128)
    yield attention_case("a bias and a window", {0: (90, 90)}, reach=20, window=40, dtype="F16")
    yield attention_case("a bias, Q8_0", {0: (150, 5)}, reach=150, sizes=(32, 32), dtype="Q8_0", block_size=64)
    yield attention_case("a long context", {0: (1300, 1)}, sizes=(8, 8), block_size=16)
    yield attention_case(
        "long contexts of many", {s: (600 + s, 1) for s in range(3)} | {3: (40, 40)}, sizes=(4, 4), heads=(2, 1)
    )
    yield attention_case("blocks of one", {0: (9, 3)}, block_size=1)
    yield attention_case("a table with room", {0: (9, 3), 1: (2, 2)}, blocks=7)


def top_k(op: str) -> Iterator[Case]:
    """Few and all, equals, infinities."""
    make = Maker()
    yield symbolic("one of many", op, make.floats(5, 60), count=1)
    yield symbolic("eight of many", op, make.floats(7, 128), count=8)
    yield symbolic("all", op, make.floats(3, 4), count=4)
    yield symbolic("no rows", op, make.floats(0, 9), count=2)
    yield symbolic("two of each group", op, make.floats(3, 4, 6), count=2)
    yield symbolic("equals", op, np.floor(make.floats(6, 16)), count=6)
    masked = np.where(make.floats(4, 8) > 0.3, make.floats(4, 8), -np.inf).astype(np.float32)
    yield symbolic("more than are finite", op, masked, count=7)


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
    for tokens, lowest, highest in ((9, -2, 3), (4, -1, 0)):
        make = Maker()
        ids = make.input(make.rng.integers(lowest, highest, (tokens, 2)).astype(np.int32), T)
        w, bias = make.weight(make.floats(3, 33, 64), dtypes.F16), make.weight(make.floats(3, 33))
        node = apply(op, make.input(make.floats(tokens, 64), T), w, ids, bias)
        yield make.case(f"{'some' if highest else 'all'} chose none", node)


def all_reduce(op: str) -> Iterator[Case]:
    """Of one process, which is its own sum."""
    make = Maker()
    yield symbolic("rows", op, make.floats(5, 37), count=1)
    yield symbolic("no rows", op, make.floats(0, 9), count=1)
    yield fixed("odd values", op, ODD, count=1)
