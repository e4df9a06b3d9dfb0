"""Attention over paged keys and values.

Where no sequence has more than one token, all of them read side by side, as many places as the longest has. Otherwise a
loop goes over the sequences, each of which reads its places once for all its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto

from puna.backends.onnx.values import State, values_of
from puna.backends.onnx.writing import Writer
from puna.graph.tensor import Tensor

INT32 = TensorProto.INT32
READS = ("causal", "window", "chunk", "block_size")
"""Attributes that say which places a token reads."""


class Reading(NamedTuple):
    """What B groups of n tokens at `positions` (B, n) read: `places` (B, P), which lie in `slots`.

    `allowed` (B, n, P) tells whether each token reads each of them; None where all read all.
    """

    positions: str
    places: str
    slots: str
    allowed: str | None


def attention(
    w: Writer, node: Tensor, q: str, k: State, v: State, positions: str, sequence: str, table: str, lengths: str,
    sinks: Any, bias: Any = None,
) -> str:  # fmt: skip
    """(T, H, E)."""
    tables = [None if each is None else values_of(w, each) for each in (sinks, bias)]
    inputs, attrs = (positions, sequence, table, lengths), node.attrs
    rows, sequences = w.size(node.shape[0]), w.size(node.inputs[5].shape[0])
    single = w.once(("single", sequence), lambda: _single(w, sequence, rows, sequences))
    key = ("side by side", *inputs, *(attrs.get(name) for name in READS))
    beside = w.once(key, lambda: _beside(w, attrs, single, *inputs))

    def at_once(inner: Writer) -> str:
        some = inner.axes("Unsqueeze", q, 1)
        return inner.axes("Squeeze", attend(inner, node, some, k, v, beside, tables), 1)

    def in_turn(inner: Writer) -> str:
        shape = inner("Concat", rows, inner.ints(*node.shape[1:]), axis=0)
        nothing = inner("Expand", inner.constant(np.float32(0)), shape)

        def one(body: Writer, i: str, out: str) -> tuple[list[str], list[Any]]:
            own = body.axes("Squeeze", body("NonZero", body("Equal", sequence, body.cast(i, INT32))), 0)
            some = body.axes("Unsqueeze", body("Gather", q, own), 0)
            blocks, length = body("Gather", table, i), body.axes("Unsqueeze", body("Gather", lengths, i), 1)
            reading = _alone(body, attrs, body.axes("Unsqueeze", body("Gather", positions, own), 0), blocks, length)
            found = body.axes("Squeeze", attend(body, node, some, k, v, reading, tables), 0)
            return [body("ScatterND", out, body.axes("Unsqueeze", own, 1), found)], []

        (result,) = inner.loop(sequences, [(nothing, ("out", TensorProto.FLOAT, None))], one)
        return result

    return w.either(single, at_once, in_turn)


def _single(w: Writer, sequence: str, rows: str, sequences: str) -> str:
    """Whether no sequence has two tokens."""
    zeros = w("Expand", w.constant(np.int32(0)), sequences)
    ones = w("Expand", w.constant(np.int32(1)), rows)
    counts = w("ScatterElements", zeros, sequence, ones, axis=0, reduction="add")
    most = w("ReduceMax", w("Concat", counts, w.constant([0], np.int32), axis=0), w.ints(0), keepdims=0)
    return w("Less", most, w.constant(np.int32(2)))


def _beside(
    w: Writer, attrs: Mapping[str, Any], single: str, positions: str, sequence: str, table: str, lengths: str
) -> Reading:
    """Each token a group: places from its first on, of which those behind its last are its last once more."""
    own, length = (w.axes("Unsqueeze", each, 1) for each in (positions, w("Gather", lengths, sequence)))  # T, 1
    low = _lowest(w, attrs, own)
    none = w.constant([[0]], np.int32)
    counts = w("Sub", length, low) if low else length
    most = w("ReduceMax", w("Concat", counts, none, axis=0), w.ints(0, 1), keepdims=0)
    most = w("Where", single, most, w.constant(np.int32(0)))  # nothing is wanted of it
    places = w.axes("Unsqueeze", w("Range", w.constant(np.int32(0)), most, w.constant(np.int32(1))), 0)
    places = w("Add", low or w("Sub", own, own), places)
    there = w("Less", places, length)
    read = w("Max", w("Min", places, w("Sub", length, w.constant(np.int32(1)))), w.constant(np.int32(0)))
    slots = _slots(w, attrs["block_size"], w("Gather", table, sequence), read)
    allowed = w.axes("Unsqueeze", there, 1)
    return Reading(own, places, slots, _both(w, allowed, _allowed(w, attrs, own, places)))


def _alone(w: Writer, attrs: Mapping[str, Any], positions: str, blocks: str, length: str) -> Reading:
    """One group of tokens (1, n) of a sequence with `blocks` (1, W) and `length` (1, 1)."""
    low = _lowest(w, attrs, positions)
    first = w.constant(np.int32(0))
    if low:
        first = w("ReduceMin", w("Concat", low, length, axis=1), w.ints(0, 1), keepdims=0)
    places = w.axes("Unsqueeze", w("Range", first, w("Squeeze", length), w.constant(np.int32(1))), 0)
    slots = _slots(w, attrs["block_size"], blocks, places)
    return Reading(positions, places, slots, _allowed(w, attrs, positions, places))


def _lowest(w: Writer, attrs: Mapping[str, Any], positions: str) -> str | None:
    """The first place that tokens read at most; None for 0."""
    if chunk := attrs.get("chunk", 0):
        size = w.constant(np.int32(chunk))
        return w("Mul", w("Div", positions, size), size)
    if not attrs["window"]:
        return None
    return w("Max", w("Sub", positions, w.constant(np.int32(attrs["window"] - 1))), w.constant(np.int32(0)))


def _slots(w: Writer, block: int, blocks: str, places: str) -> str:
    """Where places (B, P) lie of sequences whose blocks are (B, W)."""
    size = w.constant(np.int32(block))
    return w("Add", w("Mul", w("GatherElements", blocks, w("Div", places, size), axis=1), size), w("Mod", places, size))


def _allowed(w: Writer, attrs: Mapping[str, Any], positions: str, places: str) -> str | None:
    """Whether tokens (B, n) read places (B, P), both of one sequence: (B, n, P); None where all read all."""
    window, chunk = attrs["window"], attrs.get("chunk", 0)
    position, place = w.axes("Unsqueeze", positions, 2), w.axes("Unsqueeze", places, 1)
    found = w("LessOrEqual", place, position) if attrs["causal"] else None
    if window:
        size = w.constant(np.int32(window))
        found = _both(w, w("Less", w("Sub", position, place), size), found)
        found = found if attrs["causal"] else _both(w, w("Less", w("Sub", place, position), size), found)
    if chunk:
        size = w.constant(np.int32(chunk))
        found = _both(w, w("Equal", w("Div", position, size), w("Div", place, size)), found)
    return found


def _both(w: Writer, one: str, other: str | None) -> str:
    return one if other is None else w("And", one, other)


def attend(w: Writer, node: Tensor, q: str, k: State, v: State, reading: Reading, tables: list[str | None]) -> str:
    """B groups of n tokens: q (B, n, H, D) to (B, n, H, E). Heads that share keys lie together."""
    (_, heads, size), groups, attrs = node.shape, node.inputs[1].shape[1], node.attrs
    share = heads // groups
    width = node.inputs[0].shape[2]
    q = w("Mul", q, w.constant(np.float32(attrs["scale"])))
    q = w("Reshape", q, w("Concat", w("Shape", q, end=2), w.ints(groups, share, width), axis=0), allowzero=1)
    q = w("Transpose", q, perm=[0, 2, 1, 3, 4])  # B, K, n, share, D
    rows = w("Mul", w("Shape", q, start=2, end=3), w.ints(share))
    flat = w("Reshape", q, w("Concat", w("Shape", q, end=2), rows, w.ints(width), axis=0), allowzero=1)
    keys = w("Transpose", k.read(w, reading.slots), perm=[0, 2, 3, 1])
    scores = w("MatMul", flat, keys)
    if attrs["softcap"]:
        cap = w.constant(np.float32(attrs["softcap"]))
        scores = w("Mul", w("Tanh", w("Div", scores, cap)), cap)
    sinks, bias = tables
    apart = w("Concat", w("Shape", q, end=4), w("Shape", scores, start=3), axis=0)
    scores = w("Reshape", scores, apart, allowzero=1)  # B, K, n, share, P
    if bias is not None:
        scores = w("Add", scores, _biases(w, node, reading, bias, groups, share))
    if reading.allowed is not None:
        scores = w("Where", w.axes("Unsqueeze", reading.allowed, 1, 3), scores, w.constant(np.float32(-np.inf)))
    if sinks is not None:
        like = w("Concat", w("Shape", scores, end=-1), w.ints(1), axis=0)
        column = w("Expand", w("Reshape", sinks, w.ints(groups, 1, share, 1)), like)
        weights = w.cut(w("Softmax", w("Concat", scores, column, axis=4), axis=-1), 4, 0, -1)
    else:
        weights = w("Softmax", scores, axis=-1)
    together = w("Concat", w("Shape", flat, end=3), w("Shape", scores, start=4), axis=0)
    values = w("Transpose", v.read(w, reading.slots), perm=[0, 2, 1, 3])
    out = w("MatMul", w("Reshape", weights, together, allowzero=1), values)  # B, K, n * share, E
    split = w("Concat", w("Shape", q, end=4), w.ints(size), axis=0)
    back = w("Transpose", w("Reshape", out, split, allowzero=1), perm=[0, 2, 1, 3, 4])
    return w("Reshape", back, w("Concat", w("Shape", back, end=2), w.ints(heads, size), axis=0), allowzero=1)


def _biases(w: Writer, node: Tensor, reading: Reading, bias: str, groups: int, share: int) -> str:
    """What is added to scores for the distances of places: (B, K, n, share, P)."""
    reach = node.inputs[8].shape[1] // 2
    distance = w("Sub", w.axes("Unsqueeze", reading.places, 1), w.axes("Unsqueeze", reading.positions, 2))
    near = w("Clip", distance, w.constant(np.int32(-reach)), w.constant(np.int32(reach)))
    found = w("Gather", bias, w("Add", near, w.constant(np.int32(reach))), axis=1)  # H, B, n, P
    shape = w("Concat", w.ints(groups, share), w("Shape", distance), axis=0)
    return w("Transpose", w("Reshape", found, shape, allowzero=1), perm=[2, 0, 3, 1, 4])
