"""Ops as ggml's tensors, by name: each is called with the graph being built and its node. Values are float32.

What is not here is computed on the host: whatever is of integers and bools, and what ggml has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import pi, sqrt

import numpy as np

from puna import dtypes
from puna.backends.base import Array
from puna.backends.ggml.attention import attention
from puna.backends.ggml.building import Graph, Known, Value, collapsed, elements
from puna.backends.walk import Step
from puna.graph.tensor import Tensor as Node

Emit = Callable[[Graph, Node], Value]
HALVES = {"pairs": 0, "halves": 2}
"""ggml's numbers of the styles of rope."""
MOST_AXES = 4


def unary(name: str, g: Graph, node: Node) -> Value:
    """One input, element by element."""
    return Value(g(name, g.of(node.inputs[0]).tensor), g.shape(node))


def binary(name: str, g: Graph, node: Node) -> Value:
    """Two inputs that broadcast: ggml repeats only the second."""
    a, b = (g.of(i) for i in node.inputs)
    shape = g.shape(node)
    if node.inputs[1].op == "constant" and not b.shape and name in SCALED:
        return Value(SCALED[name](g, a.tensor, float(node.inputs[1].attrs["value"])), shape)
    left, right = collapsed(a.shape, b.shape)
    x, y = g.shaped(a.tensor, left), g.shaped(b.tensor, right)
    if elements(left) < elements(shape) == elements(right) and name in ("add", "mul"):
        x, y = y, x
    elif elements(left) < elements(shape):
        x = g.expanded(x, [max(pair) for pair in zip(left, right, strict=True)])
    return Value(g.shaped(g(name, x, y), shape), shape)


SCALED: Mapping[str, Callable[[Graph, int, float], int]] = {
    "mul": lambda g, x, by: g("scale", x, by),
    "add": lambda g, x, by: g("scale_bias", x, 1.0, by),
    "sub": lambda g, x, by: g("scale_bias", x, 1.0, -by),
}
"""What is done with one number."""


def reshape(g: Graph, node: Node) -> Value:
    """The same bytes."""
    shape = g.shape(node)
    return Value(g.shaped(g.floats(g.of(node.inputs[0])).tensor, shape), shape)


def permute(g: Graph, node: Node) -> Value:
    """Packed anew."""
    return g.permuted(g.floats(g.of(node.inputs[0])), node.attrs["axes"])


def slice_(g: Graph, node: Node) -> Value:
    """Part of an axis, packed anew where it lies apart."""
    x, axis, start, stop = g.of(node.inputs[0]), node.attrs["axis"], node.attrs["start"], node.attrs["stop"]
    before, after = elements(x.shape[:axis]), elements(x.shape[axis + 1 :])
    row, size = 4 * after * x.shape[axis], 4 * after
    view = g("view_4d", x.tensor, after, stop - start, before, 1, size, row, row * before, start * size)
    return Value(g.shaped(g("cont", view), g.shape(node)), g.shape(node))


def concat(g: Graph, node: Node) -> Value:
    """One after another along an axis: what is before it and behind it is one axis each."""
    axis = node.attrs["axis"]
    parts = [g.of(i) for i in node.inputs]
    flat = [g.shaped(x.tensor, (elements(x.shape[:axis]), elements(x.shape[axis:]))) for x in parts]
    found = flat[0]
    for part in flat[1:]:
        found = g("concat", found, part, 0)
    return Value(g.shaped(found, g.shape(node)), g.shape(node))


def expand(g: Graph, node: Node) -> Value:
    """Axes repeated."""
    x, shape = g.of(node.inputs[0]), g.shape(node)
    small, large = collapsed(x.shape, shape)
    return Value(g.shaped(g.expanded(g.shaped(x.tensor, small), large), shape), shape)


def take(g: Graph, node: Node) -> Value:
    """Rows that an index on the host names."""
    x, index = g.of(node.inputs[0]), g.of(node.inputs[1])
    rows, row = x.shape[0], elements(x.shape[1:])
    table = x.tensor if x.state else g.shaped(x.tensor, (rows, row))
    found = g("get_rows", table, g.shaped(index.tensor, (elements(index.shape),)))
    return Value(g.shaped(found, g.shape(node)), g.shape(node))


def embedding(g: Graph, node: Node) -> Value:
    """Rows of a matrix of any type."""
    ids, w = g.of(node.inputs[0]), g.of(node.inputs[1])
    found = g("get_rows", w.tensor, g.shaped(ids.tensor, (elements(ids.shape),)))
    return Value(g.shaped(found, g.shape(node)), g.shape(node))


def sum_(g: Graph, node: Node) -> Value:
    """Over an axis, which is brought to the end."""
    x, axis = g.of(node.inputs[0]), node.attrs["axis"]
    before, size, after = elements(x.shape[:axis]), x.shape[axis], elements(x.shape[axis + 1 :])
    turned = Value(g.shaped(x.tensor, (before, size, after)), (before, size, after))
    turned = turned if after == 1 else g.permuted(turned, (0, 2, 1))
    return Value(g.shaped(g("sum_rows", g.shaped(turned.tensor, (before * after, size))), g.shape(node)), g.shape(node))


def matmul(g: Graph, node: Node) -> Value:
    """a @ b: ggml takes the second one turned."""
    a, b = (g.of(i) for i in node.inputs)
    last = len(b.shape) - 1
    turned = g.permuted(b, (*range(last - 1), last, last - 1))
    return Value(g("mul_mat", turned.tensor, a.tensor), g.shape(node))


def linear(g: Graph, node: Node) -> Value:
    """x @ w.T + bias, w as it is stored."""
    x, w, bias = (None if i is None else g.of(i) for i in node.inputs)
    y = g("mul_mat", w.tensor, x.tensor)  # type: ignore[union-attr]  # both are there
    return Value(y if bias is None else g("add", y, bias.tensor), g.shape(node))


def experts(g: Graph, node: Node) -> Value:
    """x[t] @ w[ids[t, j]].T + bias; rows without an expert take the first one's times 0."""
    x, w, ids, bias = node.inputs
    (rows, count), wide = g.shape(ids), g.of(x)
    chosen = g.fed(("chosen", ids), (rows, count), lambda step, known: np.maximum(known[ids], 0), dtypes.I32)
    given = g.shaped(wide.tensor, (rows, 1 if len(wide.shape) == 2 else count, wide.shape[-1]))
    y = g("mul_mat_id", g.of(w).tensor, given, chosen.tensor)
    y = y if bias is None else g("add_id", y, g.of(bias).tensor, chosen.tensor)
    there = g.fed(("there", ids), (rows, count, 1), lambda step, known: known[ids] >= 0)
    return Value(g("mul", y, there.tensor), g.shape(node))


def normed(name: str, g: Graph, node: Node) -> Value:
    """A norm over the last axis, times a weight, plus a bias."""
    x, *vectors = (None if i is None else g.of(i) for i in node.inputs)
    y = g(name, x.tensor, node.attrs["eps"])  # type: ignore[union-attr]  # it is there
    for op, vector in zip(("mul", "add"), vectors, strict=False):
        y = y if vector is None else g(op, y, vector.tensor)
    return Value(y, g.shape(node))


def gelu(g: Graph, x: int, approximate: bool) -> int:
    """x * Phi(x); the approximation as it is defined, for ggml's is a table of float16."""
    if not approximate:
        return g("gelu_erf", x)
    cubed = g("mul", g("mul", x, x), x)
    inner = g("scale", g("add", x, g("scale", cubed, 0.044715)), sqrt(2 / pi))
    return g("mul", g("scale", x, 0.5), g("scale_bias", g("tanh", inner), 1.0, 1.0))


def gated(g: Graph, node: Node) -> Value:
    """gelu(gate) * up."""
    gate, up = (g.of(i).tensor for i in node.inputs)
    return Value(g("mul", gelu(g, gate, node.attrs["approximate"]), up), g.shape(node))


def rope(g: Graph, node: Node) -> Value:
    """By ggml's factors: it divides the angle by them."""
    x, positions, frequencies = node.inputs
    half = g.shape(frequencies)[0]

    def factors(step: Step, known: Known) -> Array:
        with np.errstate(divide="ignore"):
            return np.float32(1) / known[frequencies]

    by = g.fed(("factors", frequencies), (half,), factors)
    given = (2 * half, HALVES[node.attrs["style"]], 0, 1.0, 1.0, 0.0, node.attrs["scale"], 0.0, 0.0)
    return Value(g("rope_ext", g.of(x).tensor, g.of(positions).tensor, by.tensor, *given), g.shape(node))


def write(g: Graph, node: Node) -> Value:
    """Rows of a state; what is not to be written goes to its last slot."""
    target, slots, values = node.inputs
    kept = g.of(target)
    assert kept.state is not None
    last, count = kept.state.shape[0], elements(g.shape(slots))
    places = g.fed(
        ("places", slots, last),
        (count,),
        lambda step, known: np.where(known[slots] < 0, last, known[slots]),
        dtypes.I64,
    )
    rows = g.shaped(g.of(values).tensor, (count, kept.state.row))
    return kept._replace(tensor=g("set_rows", kept.tensor, rows, places.tensor))


def dequantize(g: Graph, node: Node) -> Value:
    """All values of a weight or a state."""
    x = g.of(node.inputs[0])
    if x.state is None:
        return g.floats(x)
    whole = g.floats(x).tensor
    shape = x.state.shape
    return Value(g.shaped(g("view_1d", whole, elements(shape), 0), shape), shape)


EMITS: Mapping[str, Emit] = {
    **{name: partial(unary, name) for name in ("neg", "abs", "exp", "log", "sqrt", "sin", "cos", "tanh")},
    **{name: partial(unary, name) for name in ("sigmoid", "silu")},
    **{name: partial(binary, name) for name in ("add", "sub", "mul", "div")},
    "softmax": partial(unary, "soft_max"),
    "rms_norm": partial(normed, "rms_norm"),
    "layer_norm": partial(normed, "norm"),
    "reshape": reshape,
    "permute": permute,
    "slice": slice_,
    "concat": concat,
    "expand": expand,
    "take": take,
    "embedding": embedding,
    "sum": sum_,
    "matmul": matmul,
    "linear": linear,
    "experts": experts,
    "gelu": lambda g, node: Value(gelu(g, g.of(node.inputs[0]).tensor, node.attrs["approximate"]), g.shape(node)),
    "silu_mul": lambda g, node: Value(g("swiglu_split", *(g.of(i).tensor for i in node.inputs)), g.shape(node)),
    "gelu_mul": gated,
    "rope": rope,
    "attention": attention,
    "write": write,
    "dequantize": dequantize,
    "all_reduce": lambda g, node: g.of(node.inputs[0]),
}
"""What builds each op that runs on the device."""

ON_HOST: Mapping[str, tuple[int, ...]] = {
    "take": (1,), "embedding": (0,), "experts": (2,), "rope": (1, 2), "write": (1,), "attention": (3, 4, 5, 6),
}  # fmt: skip
"""Inputs that the host must know."""


def fits(node: Node, shapes: list[tuple[int, ...]], shape: tuple[int, ...]) -> bool:
    """Whether ggml's four axes do for a node of these inputs' shapes."""
    if node.op in ("add", "sub", "mul", "div"):
        return len(collapsed(*shapes)[0]) <= MOST_AXES
    if node.op == "expand":
        return len(collapsed(shapes[0], shape)[0]) <= MOST_AXES
    if node.op in ("permute", "matmul"):
        return len(shape) <= MOST_AXES
    return True
