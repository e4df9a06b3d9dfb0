"""Two programs on one memory: what one writes, and gives back nothing for, the other one reads."""

from typing import Any

import numpy as np
import pytest

from puna import dtypes
from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.cache import BLOCK
from puna.graph import S, T, Tensor, input_, state
from puna.graph.ops import apply

Array = np.ndarray[Any, Any]
HEADS, SIZE = 2, 32
BOUNDS = Bounds(T=BLOCK, O=1, S=1)


def states(kind: str) -> list[Tensor]:
    """Keys and values of two blocks."""
    return [state(f"kept.{part}", (2 * BLOCK, HEADS, SIZE), dtypes.DTYPES[kind]) for part in "kv"]


def rows(name: str) -> Tensor:
    return input_(name, (T, HEADS, SIZE), dtypes.F32)


def reading(kind: str) -> Tensor:
    """Attention to all that was written."""
    places = [input_(name, (T,), dtypes.I32) for name in ("positions", "sequence")]
    table, lengths = input_("table", (S, 1), dtypes.I32), input_("lengths", (S,), dtypes.I32)
    numbers = {"scale": 0.25, "causal": False, "window": 0, "chunk": 0, "softcap": 0.0, "block_size": BLOCK}
    return apply("attention", rows("q"), *states(kind), *places, table, lengths, None, **numbers)


def expected(q: Array, k: Array, v: Array) -> Array:
    """Softmax, head by head."""
    out = np.empty_like(q)
    for token, head in np.ndindex(len(q), HEADS):
        weights = np.exp(k[:, head] @ q[token, head] * 0.25)
        out[token, head] = weights @ v[:, head] / weights.sum()
    return out


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
@pytest.mark.parametrize("name", ["numpy", "cpu"])
def test_what_one_program_writes_another_reads(name: str, kind: str) -> None:
    backend, random = open_backend(name, threads=2), np.random.default_rng(7)
    weights = backend.load({})
    reader = backend.compile([reading(kind)], weights, BOUNDS)
    slots = input_("slots", (T,), dtypes.I32)
    writes = [apply("write", kept, slots, rows(part)) for kept, part in zip(states(kind), "kv", strict=True)]
    writer = backend.compile([rows("k") + 1.0], weights, BOUNDS, writes=writes, beside=reader)
    q, k, v = (random.standard_normal((n, HEADS, SIZE)).astype(np.float32) for n in (3, 20, 20))
    (given,) = writer.run({"k": k, "v": v, "slots": np.arange(BLOCK, BLOCK + 20, dtype=np.int32)})
    assert np.array_equal(given, k + 1)
    zeros = np.zeros(3, np.int32)
    table, lengths = np.array([[1]], np.int32), np.array([20], np.int32)
    (got,) = reader.run({"q": q, "positions": zeros, "sequence": zeros, "table": table, "lengths": lengths})
    assert np.abs(got - expected(q, k, v)).max() < {"F32": 1e-5, "F16": 2e-3, "Q8_0": 2e-2}[kind]


@pytest.mark.parametrize("name", ["numpy", "cpu", "null"])
def test_shared_memory_is_counted_once(name: str) -> None:
    backend = open_backend(name, threads=2)
    weights, slots = backend.load({}), input_("slots", (T,), dtypes.I32)
    reader = backend.compile([reading("F32")], weights, BOUNDS)
    own = state("own", (BLOCK, HEADS, SIZE), dtypes.F32)
    writes = [apply("write", kept, slots, rows("k")) for kept in (*states("F32"), own)]
    writer = backend.compile([rows("k") + 1.0], weights, BOUNDS, writes=writes, beside=reader)
    assert reader.memory.states == 2 * 2 * BLOCK * HEADS * SIZE * 4
    assert writer.memory.states == BLOCK * HEADS * SIZE * 4
