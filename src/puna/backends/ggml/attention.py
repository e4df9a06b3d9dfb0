"""Attention over paged keys and values, read where they lie: the host says by a mask which slots each token reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from puna import dtypes
from puna.backends import batches
from puna.backends.base import Array
from puna.backends.ggml.building import Graph, Known, Value, elements
from puna.backends.walk import Step
from puna.graph.tensor import Tensor as Node

PLACES = ("causal", "window", "chunk", "block_size")
"""Attributes that say which places a token reads."""

ROOM = 256
"""Slots are read in multiples of so many, so that a graph does for many runs."""


class Reads:
    """Of each token of a run: the slots that it reads, and which place of its sequence each is."""

    def __init__(self, node: Node, known: Known) -> None:
        capacity = node.inputs[1].shape[0]
        arrays = [known[each] for each in node.inputs[3:7]]
        self._groups = batches.groups(arrays, node.attrs, capacity)
        self._positions, self._tokens = arrays[0], len(arrays[0])
        used = max((int(group.slots.max()) + 1 for group in self._groups), default=1)
        self.extent = min(capacity, -(-used // ROOM) * ROOM)

    def mask(self) -> Array:
        """What is added to scores: 0, or -inf for a slot that is not read: (T, extent)."""
        out = np.full((self._tokens, self.extent), -np.inf, np.float16)
        for rows, slots, _ in self._read():
            out[rows, slots] = 0
        return out

    def distances(self, most: int) -> Array:
        """Of each slot its place less the token's position, between -most and most, from 0 on: (T, extent)."""
        out = np.zeros((self._tokens, self.extent), np.int32)
        for rows, slots, places in self._read():
            out[rows, slots] = np.clip(places - self._positions[rows], -most, most) + most
        return out

    def _read(self) -> list[tuple[Array, Array, Array]]:
        """Rows, slots and places that belong together."""
        out = []
        for group in self._groups:
            near = group.places[:, None, :]
            b, n, p = np.nonzero((near >= group.start[:, :, None]) & (near < group.end[:, :, None]))
            out.append((group.rows[b, n], group.slots[b, p], group.places[b, p]))
        return out


def key_of(node: Node) -> tuple[Any, ...]:
    """What attentions have in common that read the same."""
    return (*map(id, node.inputs[3:7]), node.inputs[1].shape[0], *(node.attrs.get(name) for name in PLACES))


def reads(step: Step, node: Node, known: Known) -> Reads:
    """Which slots are read; worked out once for all layers."""
    return step.once(("reads", key_of(node)), lambda: Reads(node, known))


def attention(g: Graph, node: Node) -> Value:
    """In one piece where the device has it, else by its parts."""
    q, k, v = (g.of(i) for i in node.inputs[:3])
    sinks = None if node.inputs[7] is None else g.of(node.inputs[7])
    bias = next((g.of(i) for i in node.inputs[8:] if i is not None), None)
    extent, key = g.extents[key_of(node)], key_of(node)
    query = g("permute", q.tensor, 0, 2, 1, 3)  # D T H
    keys, values = (slots_of(g, x, extent) for x in (k, v))
    mask = g.fed(("mask", key), (q.shape[0], extent), lambda step, known: reads(step, node, known).mask(), dtypes.F16)
    if bias is None:
        given = (node.attrs["scale"], 0.0, node.attrs["softcap"])
        out = g.tried("flash_attn_ext", query, keys, values, mask.tensor, *given)
        g.lib.flash_attn_ext_set_prec(out, 10)
        if sinks is not None:
            g.lib.flash_attn_ext_add_sinks(out, sinks.tensor)
        if g.hardware.supports(out):
            return Value(out, g.shape(node))
    added = None if bias is None else biased(g, node, bias, extent)
    weights = scores(g, node.attrs, query, keys, added, mask.tensor, sinks)
    turned = g("cont", g("permute", values, 1, 0, 2, 3))  # n E K
    out = g("mul_mat", turned, weights)  # E T H
    return Value(g("cont", g("permute", out, 0, 2, 1, 3)), g.shape(node))


def slots_of(g: Graph, x: Value, extent: int) -> int:
    """The first slots of keys or values: D n K."""
    _, heads, size = x.shape
    row, dtype, tensor = heads * size, x.dtype, x.tensor
    if dtype.quantized:
        part = g("view_4d", tensor, row, extent, 1, 1, dtype.row_bytes(row), *(dtype.nbytes((extent, row)),) * 2, 0)
        tensor, dtype = g("cast", part, dtypes.F32.ggml_id), dtypes.F32
    whole = dtype.row_bytes(row)
    return g("view_4d", tensor, size, extent, heads, 1, whole, dtype.row_bytes(size), whole * extent, 0)


def scores(
    g: Graph, attrs: Mapping[str, Any], query: int, keys: int, added: int | None, mask: int, sinks: Value | None
) -> int:
    """The weight of each slot for each token and head: n T H."""
    found = g("scale", g("mul_mat", keys, query), attrs["scale"])
    if cap := attrs["softcap"]:
        found = g("scale", g("tanh", g("scale", found, 1 / cap)), cap)
    found = found if added is None else g("add", found, added)
    out = g("soft_max_ext", found, mask, 1.0, 0.0)
    if sinks is not None:
        g.lib.soft_max_add_sinks(out, sinks.tensor)
    return out


def biased(g: Graph, node: Node, bias: Value, extent: int) -> int:
    """What a table (H, 2R + 1) adds to scores: n T H."""
    heads, width = bias.shape
    tokens = g.shape(node)[0]

    def index(step: Step, known: Known) -> Array:
        found = reads(step, node, known).distances(width // 2)
        return np.arange(heads, dtype=np.int32)[:, None, None] * width + found

    at = g.fed(("distances", key_of(node), bias.tensor), (heads, tokens, extent), index, dtypes.I32)
    rows = g("get_rows", g.shaped(bias.tensor, (elements(bias.shape), 1)), g.shaped(at.tensor, (elements(at.shape),)))
    return g.shaped(rows, (heads, tokens, extent))
