"""Fused ops: what architectures mostly say, each with its shape rule and its meaning in core ops.

Adding one needs two users and a reason; none is named after a model.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from puna import dtypes
from puna.dtypes import DType
from puna.graph.ops import F32_NMSE, Attrs, Inputs, Op, apply, define, require
from puna.graph.tensor import Shape, Tensor, constant

QUANTIZED_NMSE = 5e-4
"""For products with quantized weights, whose activations a backend may round to 8 bits."""

HALF_NMSE = 1e-6
"""For products that a backend may take from float16 operands."""


def _like_first(op: str, *, last_axis: bool = False) -> Any:
    """float32 in, the same shape out; with `last_axis`, further inputs are vectors of the last axis' length."""

    def infer(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
        x, *vectors = inputs
        require(op, x.dtype is dtypes.F32, "needs F32", inputs)
        if last_axis:
            fits = all(v is None or (v.shape == x.shape[-1:] and v.dtype is dtypes.F32) for v in vectors)
            require(op, fits, "weights must be F32 vectors of the last axis' length", inputs)
        else:
            require(op, all(v.shape == x.shape and v.dtype is dtypes.F32 for v in vectors), "shapes differ", inputs)
        return x.shape, x.dtype

    return infer


def values_of(weight: Tensor) -> Tensor:
    """A weight's or state's float32 values."""
    return weight if weight.dtype is dtypes.F32 else apply("dequantize", weight)


# ---- matrices -------------------------------------------------------------------------------------------------------


def _linear(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    x, w, bias = inputs
    require("linear", x.dtype is dtypes.F32 and len(x.shape) == 2 and len(w.shape) == 2, "needs F32 rows", inputs)
    require("linear", x.shape[-1] == w.shape[-1], f"'{w.name}' does not fit its input", inputs)
    require("linear", bias is None or bias.shape == w.shape[:1], "the bias does not fit its weight", inputs)
    return (x.shape[0], w.shape[0]), dtypes.F32


def _linear_meaning(node: Tensor) -> Tensor:
    x, w, bias = node.inputs
    y: Tensor = apply("matmul", x, values_of(w).permute(1, 0))
    return y if bias is None else y + values_of(bias)


def _embedding(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    ids, w = inputs
    require("embedding", ids.dtype is dtypes.I32 and len(w.shape) == 2, "needs I32 ids and a matrix", inputs)
    return (*ids.shape, w.shape[1]), dtypes.F32


# ---- norms, activations ---------------------------------------------------------------------------------------------


def _rms_norm(node: Tensor) -> Tensor:
    x, w = node.inputs
    mean = (x * x).sum(-1) / float(_length(x))
    y: Tensor = x / apply("sqrt", mean + node.attrs["eps"])
    return y if w is None else y * w


def _layer_norm(node: Tensor) -> Tensor:
    x, w, bias = node.inputs
    n = float(_length(x))
    centred = x - x.sum(-1) / n
    y: Tensor = centred / apply("sqrt", (centred * centred).sum(-1) / n + node.attrs["eps"])
    y = y if w is None else y * w
    return y if bias is None else y + bias


def _length(x: Tensor) -> int:
    size = x.shape[-1]
    require("norm", isinstance(size, int), "the last axis is symbolic", (x,))
    return int(size)  # type: ignore[arg-type]  # require() has excluded symbols


def _softmax(node: Tensor) -> Tensor:
    (x,) = node.sources
    e = apply("exp", x - x.max(-1))
    return e / e.sum(-1)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)) in core ops."""
    return 1.0 / (apply("exp", -x) + 1.0)


def _silu(node: Tensor) -> Tensor:
    (x,) = node.sources
    return x * sigmoid(x)


def _gelu(x: Tensor, approximate: bool) -> Tensor:
    if approximate:
        return 0.5 * x * (1.0 + apply("tanh", sqrt(2 / pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1.0 + apply("erf", x * sqrt(0.5)))


# ---- positions and attention ----------------------------------------------------------------------------------------


def _rope(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    x, positions, frequencies = inputs
    require("rope", len(x.shape) == 3 and x.dtype is dtypes.F32, "needs F32 (T, H, D)", inputs)
    require("rope", positions.shape == x.shape[:1] and positions.dtype is dtypes.I32, "one position a row", inputs)
    fits = len(frequencies.shape) == 1 and 2 * frequencies.shape[0] <= x.shape[2]
    require("rope", fits and attrs["style"] in ("halves", "pairs"), "frequencies or style do not fit", inputs)
    return x.shape, x.dtype


def _rope_meaning(node: Tensor) -> Tensor:
    x, positions, frequencies = node.sources
    rows, heads, _ = x.shape
    half, size, scale = _length(frequencies), _length(x), node.attrs["scale"]
    angle = positions.cast(dtypes.F32).reshape(rows, 1, 1) * frequencies.reshape(1, 1, half)
    cos, sin = apply("cos", angle) * scale, apply("sin", angle) * scale
    turned = x.slice(2, 0, 2 * half)
    if node.attrs["style"] == "halves":
        a, b = turned.slice(2, 0, half), turned.slice(2, half, 2 * half)
        y = apply("concat", a * cos - b * sin, a * sin + b * cos, axis=2)
    else:
        pairs = turned.reshape(rows, heads, half, 2)
        a, b = (pairs.slice(3, i, i + 1).reshape(rows, heads, half) for i in (0, 1))
        mixed = [p.reshape(rows, heads, half, 1) for p in (a * cos - b * sin, a * sin + b * cos)]
        y = apply("concat", *mixed, axis=3).reshape(rows, heads, 2 * half)
    return y if 2 * half == size else apply("concat", y, x.slice(2, 2 * half, size), axis=2)


def _attention(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    q, k, v, positions, sequence, table, lengths, sinks, *bias = inputs
    ok = len(q.shape) == len(k.shape) == len(v.shape) == 3 and q.shape[2] == k.shape[2] and k.shape[:2] == v.shape[:2]
    require(
        "attention", ok and q.shape[1] % k.shape[1] == 0, "needs (T, H, D), (C, K, D), (C, K, E), K dividing H", inputs
    )
    require("attention", positions.shape == sequence.shape == q.shape[:1], "one position and sequence a row", inputs)
    require(
        "attention", table.shape[0] == lengths.shape[0] and len(table.shape) == 2, "one table row a sequence", inputs
    )
    require("attention", sinks is None or sinks.shape == q.shape[1:2], "one sink a head", inputs)
    require("attention", not (attrs["window"] and attrs.get("chunk")), "a window or a chunk, not both", inputs)
    odd = all(b.shape[0] == q.shape[1] and len(b.shape) == 2 and b.shape[1] % 2 == 1 for b in bias if b is not None)
    require("attention", odd, "needs a bias of (H, 2R + 1)", inputs)
    return (*q.shape[:2], v.shape[2]), dtypes.F32


def _readable(node: Tensor) -> tuple[Tensor, Tensor]:
    """For each token and each place in its sequence's table: the slot (T, P), and whether the token may read it."""
    _, _, _, positions, sequence, table, lengths, *_ = node.inputs
    (tokens,), (sequences, blocks) = sequence.shape, table.shape
    block, window = node.attrs["block_size"], node.attrs["window"]
    places = blocks * block
    inside = constant(np.arange(block).reshape(1, 1, block))
    slots = (table.reshape(sequences, blocks, 1) * block + inside).reshape(sequences, places)
    slots = apply("take", slots, sequence)
    place, position = constant(np.arange(places).reshape(1, places)), positions.reshape(tokens, 1)
    below = apply("less", place, apply("take", lengths, sequence).reshape(tokens, 1))
    if node.attrs["causal"]:
        below = apply("and", below, apply("not", apply("less", position, place)))
    if window:
        below = apply("and", below, apply("less", position - place, constant(np.int32(window))))
    if window and not node.attrs["causal"]:
        below = apply("and", below, apply("less", place - position, constant(np.int32(window))))
    if chunk := node.attrs.get("chunk"):
        first = _chunk_of(position, chunk)
        below = apply("and", below, apply("not", apply("less", place, first)))
        below = apply("and", below, apply("less", place, first + constant(np.int32(chunk))))
    return slots, below


def _chunk_of(position: Tensor, size: int) -> Tensor:
    """The first position of each one's chunk."""
    rest = position.cast(dtypes.F32) / constant(np.float32(size))
    return rest.cast(dtypes.I32) * constant(np.int32(size))


def _distances(positions: Tensor, places: int, reach: int) -> Tensor:
    """Each place's distance from each position, between -reach and reach, counted from 0: (T, P)."""
    (tokens,) = positions.shape
    distance = constant(np.arange(places, dtype=np.int32).reshape(1, places)) - positions.reshape(tokens, 1)
    near = apply("maximum", apply("minimum", distance, constant(np.int32(reach))), constant(np.int32(-reach)))
    return near + constant(np.int32(reach))


def _attention_meaning(node: Tensor) -> Tensor:
    q, k, v, positions, _, _, _, sinks, *bias = node.inputs
    (tokens, heads, size), (_, groups, value_size) = q.shape, v.shape
    share = heads // groups
    slots, allowed = _readable(node)
    places = slots.shape[1]
    keys = apply("take", values_of(k), slots).permute(0, 2, 3, 1)  # (T, K, D, P)
    values = apply("take", values_of(v), slots).permute(0, 2, 1, 3)  # (T, K, P, E)
    scores = apply("matmul", q.reshape(tokens, groups, share, size), keys) * node.attrs["scale"]
    if node.attrs["softcap"]:
        scores = apply("tanh", scores / node.attrs["softcap"]) * node.attrs["softcap"]
    for table in (b for b in bias if b is not None):
        reach = _length(table) // 2
        added = apply("take", table.permute(1, 0), _distances(positions, _length(slots), reach))  # (T, P, H)
        scores = scores + added.permute(0, 2, 1).reshape(tokens, groups, share, places)
    mask = apply("expand", allowed.reshape(tokens, 1, 1, places), shape=scores.shape)
    scores = apply("where", mask, scores, constant(np.float32(-np.inf)))
    if sinks is not None:
        column = apply("expand", sinks.reshape(1, groups, share, 1), shape=(tokens, groups, share, 1))
        whole = apply("softmax", apply("concat", scores, column, axis=3))
        weights = whole.slice(3, 0, _length(scores))
    else:
        weights = apply("softmax", scores)
    values = apply("where", allowed.reshape(tokens, 1, places, 1), values, constant(np.float32(0)))
    return apply("matmul", weights, values).reshape(tokens, heads, value_size)


for _op in (
    Op("linear", "x @ w.T + bias; w of any dtype, (N, K).", _linear, QUANTIZED_NMSE, _linear_meaning),
    Op(
        "embedding",
        "w[ids] as float32; w of any dtype.",
        _embedding,
        0.0,
        lambda n: apply("take", values_of(n.sources[1]), n.sources[0]),
    ),
    Op(
        "rms_norm",
        "x / sqrt(mean(x^2) + eps) * w over the last axis.",
        _like_first("rms_norm", last_axis=True),
        F32_NMSE,
        _rms_norm,
    ),
    Op(
        "layer_norm",
        "(x - mean) / sqrt(variance + eps) * w + b over the last axis.",
        _like_first("layer_norm", last_axis=True),
        F32_NMSE,
        _layer_norm,
    ),
    Op("softmax", "exp(x) / sum(exp(x)) over the last axis.", _like_first("softmax"), F32_NMSE, _softmax),
    Op("sigmoid", "1 / (1 + exp(-x)).", _like_first("sigmoid"), F32_NMSE, lambda n: sigmoid(n.sources[0])),
    Op("silu", "x * sigmoid(x).", _like_first("silu"), F32_NMSE, _silu),
    Op(
        "gelu",
        "x * Phi(x); with `approximate`, by tanh.",
        _like_first("gelu"),
        F32_NMSE,
        lambda n: _gelu(n.sources[0], n.attrs["approximate"]),
    ),
    Op(
        "silu_mul",
        "silu(gate) * up.",
        _like_first("silu_mul"),
        F32_NMSE,
        lambda n: apply("silu", n.sources[0]) * n.sources[1],
    ),
    Op(
        "gelu_mul",
        "gelu(gate) * up; with `approximate`, by tanh.",
        _like_first("gelu_mul"),
        F32_NMSE,
        lambda n: apply("gelu", n.sources[0], approximate=n.attrs["approximate"]) * n.sources[1],
    ),
    Op(
        "rope",
        "The first 2F elements of each head turned by position * frequency and scaled; `style` pairs element i with "
        "i + F (halves) or 2i with 2i + 1 (pairs).",
        _rope,
        1e-9,
        _rope_meaning,
    ),
    Op(
        "attention",
        "softmax(q k^T scale) v over the slots each token may read. Position p of sequence s is in slot "
        "table[s, p // block_size] * block_size + p % block_size; a token reads the positions below lengths[s], with "
        "`causal` those up to its own, with `window` w those nearer than w, with `chunk` c those of its own c. "
        "`softcap` bounds the scores; a sink is one more score without a value; a bias (H, 2R + 1) adds its column "
        "j - i + R to the score of position j for one at i, the first or last where that is beyond. K and V may be "
        "F32, F16 or Q8_0 states.",
        _attention,
        HALF_NMSE,
        _attention_meaning,
    ),
):
    define(_op)
