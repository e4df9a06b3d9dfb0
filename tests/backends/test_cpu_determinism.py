"""A token gets the same numbers, to the last bit, however its sequence is cut into steps and whoever is beside it."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from puna import dtypes, quants
from puna.backends.base import Bounds
from puna.backends.cpu import _native, open_backend
from puna.graph import O, S, T, constant, input_, state, weight
from puna.graph.ops import apply

LENGTH = 700
BLOCK = 64
COLUMNS = 11
SEQUENCES = 4
HIDDEN = 64
ISAS = _native.isas()


@dataclass(frozen=True)
class Shape:
    """A tiny transformer."""

    heads: int
    groups: int
    size: int = 32
    kept: str = "F16"
    window: int = 0
    stored: str = "Q8_0"
    norm: str = "rms_norm"
    reach: int | None = None


SHAPES = {
    "one head a group": Shape(2, 2, stored="F32"),
    "three heads a group, f32 states": Shape(6, 2, kept="F32", stored="Q4_0"),
    "four heads a group, q8_0 states": Shape(4, 1, kept="Q8_0"),
    "a window": Shape(3, 1, window=100, stored="F16"),
    "an odd window, softcap, q8_0 states": Shape(2, 1, kept="Q8_0", window=257, norm="layer_norm"),
    "heads that fill no vector": Shape(2, 1, size=20),
    "many heads a group": Shape(14, 1, stored="Q5_1"),
    "a near bias": Shape(4, 2, reach=30),
    "a far bias, a window, q8_0 states": Shape(3, 1, kept="Q8_0", window=300, reach=LENGTH),
}


class Values:
    def __init__(self, values, dtype="F32"):
        self.shape, self.dtype = values.shape, dtypes.DTYPES[dtype]
        self.raw = np.ascontiguousarray(quants.quantize(values, dtype)).reshape(-1).view(np.uint8)

    def numpy(self):
        return quants.dequantize(self.raw, self.dtype.name, self.shape)


class Model:
    """Two blocks on one backend; every token's result is wanted."""

    def __init__(self, shape, isa, threads):
        self.shape, self.stored, self.rng = shape, {}, np.random.default_rng(1)
        self.read = {
            name: input_(name, dims, dtypes.I32)
            for name, dims in {"positions": (T,), "sequence": (T,), "table": (S, COLUMNS), "lengths": (S,)}.items()
        }
        self.slots = input_("slots", (T,), dtypes.I32)
        x = apply("embedding", input_("tokens", (T,), dtypes.I32), self.weight(97, HIDDEN))
        for i in range(2):
            x = self.attention(x, i)
            h = self.norm(x)
            gated = apply("silu_mul", self.linear(h, 96, HIDDEN), self.linear(h, 96, HIDDEN))
            x = x + self.linear(gated, HIDDEN, 96)
        out = self.linear(self.norm(apply("take", x, input_("outputs", (O,), dtypes.I32))), 97, HIDDEN)
        backend = open_backend(threads, isa)
        self.program = backend.compile([out], backend.load(self.stored), Bounds(T=LENGTH, O=LENGTH, S=SEQUENCES))

    def weight(self, *dims, dtype="F32"):
        name = f"w{len(self.stored)}"
        self.stored[name] = Values(self.rng.standard_normal(dims).astype(np.float32), dtype)
        return weight(name, dims, dtypes.DTYPES[dtype])

    def linear(self, x, n, k):
        return apply("linear", x, self.weight(n, k, dtype=self.shape.stored), None)

    def norm(self, x):
        w = self.weight(HIDDEN)
        return (
            apply("rms_norm", x, w, eps=1e-5)
            if self.shape.norm == "rms_norm"
            else apply("layer_norm", x, w, w, eps=1e-5)
        )

    def attention(self, x, i):
        shape, h = self.shape, self.norm(x)
        turns = constant(1e4 ** -(np.arange(shape.size // 2, dtype=np.float32) / (shape.size // 2)))

        def part(heads):
            return self.linear(h, -(-heads * shape.size // 32) * 32, HIDDEN).slice(1, 0, heads * shape.size)

        def turned(y, heads):
            y = y.reshape(T, heads, shape.size)
            return apply("rope", y, self.read["positions"], turns, style="halves", scale=1.0)

        q = turned(part(shape.heads), shape.heads)
        k, v = turned(part(shape.groups), shape.groups), part(shape.groups).reshape(T, shape.groups, shape.size)
        k, v = (
            apply(
                "write",
                state(f"{name}{i}", (SEQUENCES * COLUMNS * BLOCK, shape.groups, shape.size), dtypes.DTYPES[shape.kept]),
                self.slots,
                y,
            )
            for name, y in (("k", k), ("v", v))
        )
        numbers = {"scale": shape.size**-0.5, "causal": True, "window": shape.window, "block_size": BLOCK}
        softcap = 20.0 if shape.norm == "layer_norm" else 0.0
        bias = None if shape.reach is None else self.weight(shape.heads, 2 * shape.reach + 1)
        y = apply("attention", q, k, v, *self.read.values(), None, bias, **numbers, softcap=softcap)
        y = y.reshape(T, shape.heads * shape.size)
        width = -(-shape.heads * shape.size // 32) * 32
        if width > shape.heads * shape.size:
            y = apply("concat", y, y.slice(1, 0, width - shape.heads * shape.size), axis=1)
        return x + self.linear(y, HIDDEN, width)

    def step(self, *parts):
        """Results for parts (sequence, start, stop) of the texts."""
        table = np.random.default_rng(0).permutation(SEQUENCES * COLUMNS).astype(np.int32).reshape(SEQUENCES, COLUMNS)
        positions = np.concatenate([np.arange(start, stop) for _, start, stop in parts])
        rows = np.concatenate([np.full(stop - start, s) for s, start, stop in parts])
        inputs = {
            "tokens": text()[rows, positions],
            "positions": positions,
            "sequence": np.concatenate([np.full(stop - start, i) for i, (_, start, stop) in enumerate(parts)]),
            "slots": table[rows, positions // BLOCK] * BLOCK + positions % BLOCK,
            "table": table[[s for s, _, _ in parts]],
            "lengths": np.array([stop for _, _, stop in parts]),
            "outputs": np.arange(len(positions)),
        }
        (result,) = self.program.run({name: array.astype(np.int32) for name, array in inputs.items()})
        return result.copy()

    def in_steps(self, sizes):
        """Results of a whole text computed in steps of the given sizes, the last one repeated."""
        out, at = [], 0
        while at < LENGTH:
            size = min(sizes[min(len(out), len(sizes) - 1)], LENGTH - at)
            out.append(self.step((0, at, at + size)))
            at += size
        return np.concatenate(out)


@cache
def text():
    return np.random.default_rng(5).integers(0, 97, (SEQUENCES, LENGTH))


@cache
def model(name, isa="auto", threads=2):
    return Model(SHAPES[name], isa, threads)


@cache
def whole(name, isa="auto"):
    result = model(name, isa).in_steps([LENGTH])
    assert np.isfinite(result).all()
    assert np.ptp(result, axis=0).min() > 0
    return result


CUTS = {
    "one at a time": [1],
    "twos": [2],
    "threes": [3],
    "blocks": [64],
    "around the borders of tiles": [63, 1, 1, 63, 2, 62, 65, 1, 127, 128, 129],
    "around the borders of chunks": [255, 1, 1, 254, 1, 1],
    "prompts and answers": [300, 1, 1, 1, 40, 1, 1, 1, 17, 1],
    "growing": [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144],
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_text_gives_the_same_however_it_is_cut_into_steps(name, isa):
    for what, sizes in CUTS.items():
        np.testing.assert_array_equal(model(name, isa).in_steps(sizes), whole(name, isa), err_msg=what)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_text_gives_the_same_alone_and_in_a_crowd(name, isa):
    expected = whole(name, isa)[-1]
    one = model(name, isa)
    for other in range(1, SEQUENCES):
        one.step((other, 0, 650 - 31 * other))
    one.step((0, 0, LENGTH - 1))
    me, rest = (0, LENGTH - 1, LENGTH), [(s, 650 - 31 * s, 651 - 31 * s) for s in range(1, SEQUENCES)]
    for crowd in ([me], [me, *rest], [*rest, me], [rest[2], me, rest[0]], [(1, 619, 650), me], [me, (2, 588, 700)]):
        at = sum(stop - start for _, start, stop in crowd[: crowd.index(me)])
        np.testing.assert_array_equal(one.step(*crowd)[at], expected, err_msg=str(crowd))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_a_text_gives_the_same_with_any_number_of_threads(name, threads):
    for sizes in ([LENGTH], [1], [500, 2, 30, 1]):
        np.testing.assert_array_equal(model(name, "auto", threads).in_steps(sizes), whole(name))


# ---- attention by itself ---------------------------------------------------------------------------------------------


def attend(keys, values, asking, *, window=0, block=BLOCK, kept="F32", isa="auto", sequences=False):
    """Attention of the positions `asking`, three heads to a group, in one step: as one sequence, or each as its own."""
    n, groups, size = keys.shape
    capacity, count = -(-n // block) * block, len(asking)
    shapes = {"positions": (T,), "sequence": (T,), "table": (S, capacity // block), "lengths": (S,)}
    read = [input_(name, dims, dtypes.I32) for name, dims in shapes.items()]
    kv = (
        apply("write", state(name, (capacity, groups, size), dtypes.DTYPES[kept]), input_("slots", (n,), dtypes.I32), x)
        for name, x in (("k", input_("keys", keys.shape, dtypes.F32)), ("v", input_("values", keys.shape, dtypes.F32)))
    )
    q = input_("q", (T, 3 * groups, size), dtypes.F32)
    attrs = {"scale": size**-0.5, "causal": True, "window": window, "softcap": 0.0, "block_size": block}
    backend = open_backend(2, isa)
    bounds = Bounds(T=64, O=1, S=64)
    program = backend.compile([apply("attention", q, *kv, *read, None, **attrs)], backend.load({}), bounds)
    rows = count if sequences else 1
    queries = np.random.default_rng(3).standard_normal((n, 3 * groups, size)).astype(np.float32)
    inputs = {
        **{"keys": keys, "values": values, "slots": np.arange(n), "q": queries[asking], "positions": np.array(asking)},
        "sequence": np.arange(count) if sequences else np.zeros(count),
        "table": np.tile(np.arange(capacity // block), (rows, 1)),
        "lengths": np.array(asking) + 1 if sequences else np.array([n]),
    }
    return program.run(inputs)[0].copy()


def random(n, size=16):
    rng = np.random.default_rng(n)
    return (rng.standard_normal((n, 1, size)).astype(np.float32) for _ in range(2))


def test_contexts_too_many_to_be_cut_give_the_same_as_one_that_is():
    keys, values = random(4400, 4)
    asking = list(range(4368, 4400))
    crowd = attend(keys, values, asking, sequences=True)
    for i in (0, 7, 31):
        np.testing.assert_array_equal(attend(keys, values, [asking[i]], sequences=True)[0], crowd[i])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kept", ["F32", "F16"])
@pytest.mark.parametrize("block", [64, 16])
@pytest.mark.parametrize("place", ["key", "value"])
def test_nan_where_a_token_does_not_read_leaves_no_trace(isa, kept, block, place):
    keys, values = random(300)
    asking = list(range(200, 260))
    clean = attend(keys, values, asking, window=20, block=block, kept=kept, isa=isa)
    {"key": keys, "value": values}[place][230] = math.nan
    result = attend(keys, values, asking, window=20, block=block, kept=kept, isa=isa)
    reads = np.array([230 <= position < 250 for position in asking])
    np.testing.assert_array_equal(result[~reads], clean[~reads])
    assert np.isnan(result[reads]).all()
    for i in (29, 30, 49, 50):
        alone = attend(keys, values, [asking[i]], window=20, block=block, kept=kept, isa=isa)
        np.testing.assert_array_equal(alone[0], result[i])


@pytest.mark.parametrize("kept", ["F32", "F16", "Q8_0"])
def test_pages_hold_what_slots_hold(kept):
    keys, values = random(300, 32)
    asking = list(range(240, 300))
    paged = attend(keys, values, asking, kept=kept)
    np.testing.assert_array_equal(attend(keys, values, asking, kept=kept, block=20), paged)
