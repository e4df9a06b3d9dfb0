"""Each kernel beside its own roofline: the time of the machine's limits for what it computes and reads.

Weights are rotated out of the caches, as a decode finds them; other operands lie where a model of this size has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from puna import dtypes
from puna.backends.base import Bounds
from puna.backends.cpu import CpuBackend
from puna.backends.cpu import _native as native
from puna.backends.cpu.weights import has_product, type_id
from puna.bench import table
from puna.bench.contender import write_states
from puna.bench.limits import Limits, Reading, cache_size
from puna.bench.table import giga, number, percent
from puna.bench.work import KINDS, KV_BYTES
from puna.cache import BLOCK
from puna.dtypes import DTYPES, DType
from puna.graph import S, T, Tensor, constant, input_, state
from puna.graph.ops import apply

SHAPE = (2048, 2048)
"""Rows and columns of a weight."""
ROWS = (1, 8, 512)
"""Tokens at once."""
ROTATED = 96 << 20
"""Bytes of weights, several times any cache of one thread."""
WORK = 2e9
"""Operations in one round at most."""
ROUNDS = 5
HEADS, GROUPS, SIZE = 32, 8, 64
"""Of attention: query heads, K/V heads, numbers of each."""
DECODE_AT, PREFILL = 16384, 512
ROW_OPS = {"rms_norm": 2, "silu": 2, "silu_mul": 3, "softmax": 2}
"""Ops by row, with how many float32 arrays of their shape are read and written."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A kernel's best round: seconds, what it computed and read, and seconds that the limits allow."""

    kernel: str
    rows: int
    seconds: float
    operations: float
    nbytes: float
    least: float

    @property
    def share(self) -> float:
        """The part of its roofline that it reaches."""
        return self.least / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "share": self.share}


def measure(limits: Limits, types: Iterable[str] = tuple(DTYPES), shape: tuple[int, int] = SHAPE) -> Iterator[Measured]:
    """Every kernel in turn."""
    for name in types:
        if DTYPES[name].ggml_id is not None and has_product(DTYPES[name]):
            yield from _products(DTYPES[name], shape, limits)
    backend = CpuBackend(limits.threads, "auto")
    for op, arrays in ROW_OPS.items():
        for rows in (1, PREFILL):
            yield _row_op(op, arrays, rows, shape[1], backend, limits)
    for kv in ("f16", "q8_0"):
        yield _attention(1, DECODE_AT, kv, backend, limits)
        yield _attention(PREFILL, PREFILL, kv, backend, limits)


def _products(dtype: DType, shape: tuple[int, int], limits: Limits) -> Iterator[Measured]:
    name, type_, (n, k) = dtype.name, type_id(dtype), shape
    raw = np.random.default_rng(0).integers(0, 60, dtype.nbytes(shape), dtype=np.uint8)  # small numbers in any type
    if name == "MXFP4":
        raw[:: dtype.block_bytes] = 120  # small exponents would make denormals of the products
    one = native.linear_pack(type_, n, k, raw, limits.threads)
    count = max(1, ROTATED // one.nbytes)
    weights = [one, *(native.linear_pack(type_, n, k, raw, limits.threads) for _ in range(count - 1))]
    reading = Reading(count * one.nbytes, limits.threads)
    for rows in ROWS:
        some = weights[: max(1, int(WORK / (2 * n * k * rows)))]
        seconds = min(native.time_linear(some, rows, "auto", limits.threads, ROUNDS))
        operations, nbytes = 2.0 * n * k * rows * len(some), float(sum(w.nbytes for w in some))
        least = max(operations / limits.peak(KINDS.get(name, "int8")), nbytes / reading.rate())
        yield Measured(f"linear {name}", rows, seconds, operations, nbytes, least)


def _row_op(op: str, arrays: int, rows: int, columns: int, backend: CpuBackend, limits: Limits) -> Measured:
    names = ["x", "y"][: 2 if op == "silu_mul" else 1]
    given = [input_(name, (T, columns), dtypes.F32) for name in names]
    more = [constant(np.ones(columns, np.float32))] if op == "rms_norm" else []
    out = apply(op, *given, *more, **({"eps": 1e-5} if op == "rms_norm" else {}))
    values = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    seconds = _timed(backend, out, dict.fromkeys(names, values), Bounds(T=rows, O=1, S=1))
    nbytes = 4.0 * arrays * values.size
    return Measured(op, rows, seconds, 0.0, nbytes, nbytes / _read(nbytes, limits))


def _attention(rows: int, positions: int, kv_type: str, backend: CpuBackend, limits: Limits) -> Measured:
    """The last `rows` of so many positions, in states of this type."""
    kept = DTYPES[kv_type.upper()]
    columns = -(-positions // BLOCK)
    ints = {"positions": T, "sequence": T, "slots": T, "lengths": S}
    leaves = {name: input_(name, (size,), dtypes.I32) for name, size in ints.items()}
    leaves["table"] = input_("table", (S, columns), dtypes.I32)
    q, new = input_("q", (T, HEADS, SIZE), dtypes.F32), input_("new", (T, GROUPS, SIZE), dtypes.F32)
    states = [state(name, (columns * BLOCK, GROUPS, SIZE), kept) for name in ("k", "v")]
    keys, values = (apply("write", s, leaves["slots"], new) for s in states)
    attrs = {"scale": SIZE**-0.5, "causal": True, "window": 0, "softcap": 0.0, "block_size": BLOCK}
    read = (leaves[name] for name in ("positions", "sequence", "table", "lengths"))
    out = apply("attention", q, keys, values, *read, None, **attrs)
    place = np.arange(positions - rows, positions, dtype=np.int32)
    rng = np.random.default_rng(0)
    inputs = {
        "positions": place,
        "slots": place,
        "sequence": np.zeros(rows, np.int32),
        "lengths": np.array([positions], np.int32),
        "table": np.arange(columns, dtype=np.int32)[None],
        "q": rng.standard_normal((rows, HEADS, SIZE)).astype(np.float32),
        "new": rng.standard_normal((rows, GROUPS, SIZE)).astype(np.float32),
    }
    seconds = _timed(backend, out, inputs, Bounds(T=rows, O=1, S=1))
    seen = rows * positions - rows * (rows - 1) / 2
    operations, nbytes = 4.0 * seen * HEADS * SIZE, 2.0 * positions * GROUPS * SIZE * KV_BYTES[kv_type]
    peak = limits.peak("int16" if kv_type == "q8_0" else "f32")  # what is kept as q8_0 meets 16-bit integers
    least = max(operations / peak, nbytes / _read(nbytes, limits))
    return Measured(f"attention {kv_type} at {positions}", rows, seconds, operations, nbytes, least)


def _timed(backend: CpuBackend, out: Tensor, inputs: dict[str, Any], bounds: Bounds) -> float:
    """Seconds of the best run, within the program."""
    program = backend.compile([out], backend.load({}), bounds)
    write_states(program)
    found = []
    for _ in range(4 * ROUNDS):
        program.run(inputs)
        found.append(program.seconds)
    return min(found)


def _read(nbytes: float, limits: Limits) -> float:
    """Bytes a second from the smallest place that holds so many."""
    if nbytes <= (cache_size(2) or 0) * limits.threads:
        return limits.read["L2"][limits.threads]
    place = "L3" if nbytes <= (cache_size(3) or 0) else "memory"
    return limits.read[place][limits.threads]


def lines(found: Sequence[Measured]) -> Iterator[str]:
    """All of them as text."""
    rows = [
        [m.kernel, str(m.rows), number(1e6 * m.seconds), giga(m.operations / m.seconds) if m.operations else "",
         giga(m.nbytes / m.seconds), percent(m.share)]
        for m in found
    ]  # fmt: skip
    yield from table.lines(["kernel", "rows", "us", "GOP/s", "GB/s", "of roofline"], rows)
