"""Attention over q8_0 states, whose products are made of 16-bit integers, against loops over what the states hold."""

import math

import numpy as np
import pytest

from puna import dtypes
from puna.backends.base import Bounds
from puna.backends.cpu import _native, open_backend
from puna.graph import S, T, input_, state
from puna.graph.ops import apply

ISAS = _native.isas()
BLOCK = 64


def kept(x):
    """What q8_0 states hold of rows: integers times the largest magnitude of 32 over 127, rounded to 16 bits."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    d = np.abs(blocks).max(-1, keepdims=True).astype(np.float32) / np.float32(127)
    integers = np.round(blocks * np.divide(1, d, out=np.zeros_like(d), where=d != 0))
    return (integers * d.astype(np.float16).astype(np.float64)).reshape(x.shape)


def attended(keys, values, queries, positions, window=0, *, isa="auto", block=BLOCK):
    n, _, size = keys.shape
    capacity = -(-n // block) * block
    shapes = {"positions": (T,), "sequence": (T,), "table": (S, capacity // block), "lengths": (S,)}
    read = [input_(name, dims, dtypes.I32) for name, dims in shapes.items()]
    written = (
        apply("write", state(name, (capacity, *x.shape[1:]), dtypes.Q8_0), input_("slots", (n,), dtypes.I32), source)
        for name, x in (("keys", keys), ("values", values))
        for source in (input_(name, x.shape, dtypes.F32),)
    )
    attrs = {"scale": size**-0.5, "causal": True, "window": window, "softcap": 0.0, "block_size": block}
    q = input_("q", (T, *queries.shape[1:]), dtypes.F32)
    backend = open_backend(2, isa)
    program = backend.compile(
        [apply("attention", q, *written, *read, None, **attrs)], backend.load({}), Bounds(T=64, O=1, S=1)
    )
    inputs = {"keys": keys, "values": values, "slots": np.arange(n), "q": queries, "positions": np.array(positions)}
    table = np.arange(capacity // block)[None]
    where = {"sequence": np.zeros(len(positions)), "table": table, "lengths": np.array([n])}
    return program.run(inputs | where)[0].copy()


def naive(keys, values, queries, positions, window=0):
    keys, values = kept(keys), kept(values)
    share = queries.shape[1] // keys.shape[1]
    out = np.zeros((*queries.shape[:2], values.shape[2]))
    for i, position in enumerate(positions):
        first = max(0, position - window + 1) if window else 0
        for head in range(queries.shape[1]):
            seen = slice(first, position + 1)
            scores = keys[seen, head // share] @ queries[i, head].astype(np.float64) * keys.shape[2] ** -0.5
            weights = np.exp(scores - scores.max())
            out[i, head] = weights @ values[seen, head // share] / weights.sum()
    return out


def random(n, groups=2, share=3, size=64, value_size=64, tokens=1):
    rng = np.random.default_rng(n + size)
    shapes = (n, groups, size), (n, groups, value_size), (tokens, groups * share, size)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("share", "size", "value_size"), [(1, 64, 64), (4, 128, 32), (7, 96, 160), (13, 32, 64)])
@pytest.mark.parametrize("block", [64, 20])
def test_integers_lose_nothing_that_q8_0_has_kept(isa, share, size, value_size, block):
    for tokens in (1, 17):
        case = random(650, share=share, size=size, value_size=value_size, tokens=tokens)
        positions = range(650 - tokens, 650)
        np.testing.assert_allclose(attended(*case, positions, isa=isa, block=block), naive(*case, positions), atol=3e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_many_small_weights_beside_a_large_one_count(isa):
    keys, values, queries = random(640, share=1)
    keys[:, :, :] = queries.reshape(1, 2, 64) * -0.1
    keys[70] = queries.reshape(2, 64) * 1.1
    values[70] *= 0.01
    values[:, :, :8] = np.abs(values[:, :, :8]) + 1
    result = attended(keys, values, queries, [639], isa=isa)
    np.testing.assert_allclose(result, naive(keys, values, queries, [639]), atol=3e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_a_window_reads_neither_before_nor_after_it(isa):
    keys, values, queries = random(700, tokens=40)
    positions = list(range(500, 540))
    clean = attended(keys, values, queries, positions, 100, isa=isa)
    np.testing.assert_allclose(clean, naive(keys, values, queries, positions, 100), atol=3e-4)
    keys[:401], values[:401], keys[540:], values[540:] = math.inf, math.inf, math.inf, math.inf
    np.testing.assert_array_equal(attended(keys, values, queries, positions, 100, isa=isa), clean)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("what", ["keys", "values", "queries"])
def test_what_is_not_finite_spoils_only_those_who_read_it(isa, what):
    keys, values, queries = random(300, tokens=30)
    positions = list(range(270, 300))
    clean = attended(keys, values, queries, positions, isa=isa)
    place = 15 if what == "queries" else 285
    {"keys": keys, "values": values, "queries": queries}[what][place] = math.inf
    result = attended(keys, values, queries, positions, isa=isa)
    spoiled = np.array([p == 285 if what == "queries" else p >= 285 for p in positions])
    np.testing.assert_array_equal(result[~spoiled], clean[~spoiled])
    assert not np.isfinite(result[spoiled]).any()
