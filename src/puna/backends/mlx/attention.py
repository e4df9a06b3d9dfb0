"""Attention over paged keys and values. Heads that share keys are left to MLX, which never repeats them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from puna.backends import batches
from puna.backends.mlx.values import Array, State, values_of
from puna.backends.walk import Step
from puna.graph.tensor import Tensor as Node

PLACES = ("causal", "window", "chunk", "block_size")
"""Attributes that say which places a token reads."""

ROOM = 64
"""Places are read in multiples of so many, so that memory of few sizes is used again."""


class Group:
    """A group of rows (B, L) on the device."""

    def __init__(self, group: batches.Group) -> None:
        self.shape = group.rows.shape
        self.rows = mx.array(group.rows.reshape(-1))
        self.slots, self.places = mx.array(group.slots.reshape(-1)), mx.array(group.places)
        allowed = group.allowed
        self.mask = None if allowed is None else mx.array(allowed)[:, None]  # B 1 L P

    def read(self, state: State) -> Array:
        """Keys or values of the places: (B, K, P, D)."""
        found = state.read(self.slots)
        return found.reshape(*self.places.shape, *found.shape[1:]).transpose(0, 2, 1, 3)


def attention(
    step: Step, node: Node, q: Array, k: State, v: State, positions: Array, sequence: Array, table: Array,
    lengths: Array, sinks: Any, bias: Any = None,
) -> Array:  # fmt: skip
    """Each group by itself."""
    given, values = node.inputs[3:7], (positions, sequence, table, lengths)

    def planned() -> list[Group]:
        arrays = [step.on_host(n, value) for n, value in zip(given, values, strict=True)]
        found = batches.groups(arrays, node.attrs, k.shape[0], room=lambda count: -(-count // ROOM) * ROOM)
        return [Group(group) for group in found]

    key = ("groups", *map(id, given), *(node.attrs.get(name) for name in PLACES))
    out = mx.zeros((*q.shape[:2], v.shape[2]), mx.float32)
    sinks, bias = (None if w is None else values_of(w) for w in (sinks, bias))
    for group in step.once(key, planned):
        out[group.rows] = attend(group, q[group.rows], k, v, added(group, positions, bias), sinks, node.attrs)
    return out


def attend(
    group: Group, q: Array, k: State, v: State, mask: Array | None, sinks: Array | None, attrs: Mapping[str, Any]
) -> Array:
    """One group: q (B L, H, D) to (B L, H, E)."""
    (b, n), heads = group.shape, q.shape[1]
    keys, values = (group.read(state).astype(mx.float32) for state in (k, v))
    query = q.reshape(b, n, heads, -1).transpose(0, 2, 1, 3)
    if attrs["softcap"]:
        out = capped(query, keys, values, mask, sinks, attrs)
    else:
        out = mx.fast.scaled_dot_product_attention(query, keys, values, scale=attrs["scale"], mask=mask, sinks=sinks)
    return out.transpose(0, 2, 1, 3).reshape(b * n, heads, -1)


def added(group: Group, positions: Array, bias: Array | None) -> Array | None:
    """What is added to scores (B, H, L, P), or bools of what is read; None for nothing."""
    if bias is None:
        return group.mask
    most, own = bias.shape[1] // 2, positions[group.rows].reshape(*group.shape, 1)
    distance = mx.clip(group.places[:, None, :] - own, -most, most) + most
    scores = bias[:, distance].transpose(1, 0, 2, 3)
    return scores if group.mask is None else mx.where(group.mask, scores, -mx.inf)


def capped(
    query: Array, keys: Array, values: Array, mask: Array | None, sinks: Array | None, attrs: Mapping[str, Any]
) -> Array:
    """Attention whose scores are bounded by a softcap."""
    share = query.shape[1] // keys.shape[1]
    keys, values = (mx.repeat(x, share, 1) for x in (keys, values))
    scores = mx.tanh(query @ keys.swapaxes(2, 3) * (attrs["scale"] / attrs["softcap"])) * attrs["softcap"]
    if mask is not None:
        scores = mx.where(mask, scores, -mx.inf) if mask.dtype == mx.bool_ else scores + mask
    if sinks is not None:
        column = mx.broadcast_to(sinks.reshape(1, -1, 1, 1), (*scores.shape[:3], 1))
        return mx.softmax(mx.concatenate((scores, column), 3), -1)[..., :-1] @ values
    return mx.softmax(scores, -1) @ values
