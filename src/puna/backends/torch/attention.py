"""Attention over paged keys and values: what each token may read is worked out once a run, on the host.

Tokens that ask alone for their sequence go in one batch; others, sequence by sequence. Heads that share keys are
rows of one query, so that keys are never repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from puna.backends import batches
from puna.backends.torch.blocks import Tensor
from puna.backends.torch.step import Step
from puna.backends.torch.values import State, values_of
from puna.graph.tensor import Tensor as Node

PLACES = ("causal", "window", "chunk", "block_size")
"""Attributes that say which places a token reads."""


class Group:
    """A group of rows (B, L) that read (B, P) places each, on the device."""

    def __init__(self, step: Step, group: batches.Group) -> None:
        self.rows, self.size = step.index(group.rows.reshape(-1)), (*group.rows.shape, group.places.shape[1])
        flat = group.slots.reshape(-1)
        self.first = int(flat[0]) if np.array_equal(flat, np.arange(flat[0], flat[0] + len(flat))) else None
        self.slots = None if self.first is not None else step.index(flat)
        self.places = step.index(group.places)
        allowed = group.allowed
        self.mask = None if allowed is None else torch.tensor(allowed, device=step.device)[:, None, None]  # B 1 1 L P

    def read(self, state: State) -> Tensor:
        """Keys or values of the places: (B, K, P, D)."""
        b, _, p = self.size
        found = state.run(self.first, b * p) if self.first is not None else state.read(self.slots)
        return found.reshape(b, p, *found.shape[1:]).permute(0, 2, 1, 3)


def powers(count: int) -> int:
    """Few different sizes, so that a device's memory is used again."""
    return 1 << (count - 1).bit_length()


def attention(
    step: Step, node: Node, q: Tensor, k: State, v: State, positions: Tensor, sequence: Tensor, table: Tensor,
    lengths: Tensor, sinks: Any, bias: Any = None,
) -> Tensor:  # fmt: skip
    """Each group by itself."""
    given = node.inputs[3:7]
    values = (positions, sequence, table, lengths)
    key = (*map(id, given), *(node.attrs.get(name) for name in PLACES))

    def plan() -> list[Group]:
        arrays = [step.on_host(n, value) for n, value in zip(given, values, strict=True)]
        room = {} if step.device.type == "cpu" else {"room": powers}
        return [Group(step, group) for group in batches.groups(arrays, node.attrs, k.shape[0], **room)]

    found = step.once(key, plan)
    out = q.new_zeros((*q.shape[:2], v.shape[2]))
    extra = [None if w is None else values_of(w) for w in (sinks, bias)]
    for group in found:
        result = attend(group, q.index_select(0, group.rows), k, v, positions, extra, node.attrs)
        out.index_copy_(0, group.rows, result)
    return out


def attend(
    group: Group, q: Tensor, k: State, v: State, positions: Tensor, extra: list[Any], attrs: Mapping[str, Any]
) -> Tensor:
    """One group: q (B L, H, D) to (B L, H, E)."""
    (b, n, _), heads = group.size, q.shape[1]
    keys, values = group.read(k), group.read(v)
    kv = keys.shape[1]
    share = heads // kv
    query = q.reshape(b, n, kv, share, -1).permute(0, 2, 3, 1, 4).reshape(b, kv, share * n, -1)
    mask = added(group, positions, (kv, share), *extra)
    if extra[0] is not None:  # a sink is the score of a place whose key and value are nothing
        keys, values = F.pad(keys, (0, 0, 0, 1)), F.pad(values, (0, 0, 0, 1))
    if q.device.type == "cpu":
        keys, values = keys.float(), values.float()
    if attrs["softcap"]:
        out = capped(query, keys.float(), values.float(), mask, attrs)
    else:
        query = query.to(keys.dtype)
        mask = mask.to(keys.dtype) if mask is not None and mask.is_floating_point() else mask
        out = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=attrs["scale"]).float()
    return out.reshape(b, kv, share, n, -1).permute(0, 3, 1, 2, 4).reshape(b * n, heads, -1)


def added(group: Group, positions: Tensor, heads: tuple[int, int], sinks: Any, bias: Any) -> Any:
    """What is added to scores (B, K, share L, P): bools of what is read, or floats; None for nothing."""
    (b, n, p), (kv, share) = group.size, heads
    mask = group.mask
    if bias is not None:
        columns = bias[:, distances(group, positions, bias.shape[1] // 2)]  # H B L P
        scores = columns.reshape(kv, share, b, n, p).permute(2, 0, 1, 3, 4)
        mask = scores if mask is None else torch.where(mask, scores, -torch.inf)
    if sinks is not None:
        if mask is None:
            mask = torch.zeros((b, 1, 1, n, p), device=sinks.device)
        elif mask.dtype is torch.bool:
            mask = torch.where(mask, 0.0, -torch.inf)
        column = sinks.reshape(1, kv, share, 1, 1).expand(b, kv, share, n, 1)
        mask = torch.cat((mask.expand(b, kv, share, n, p), column), 4)
    if mask is None:
        return None
    return mask.expand(b, mask.shape[1], share, n, -1).reshape(b, mask.shape[1], share * n, -1)


def distances(group: Group, positions: Tensor, most: int) -> Tensor:
    """Of each place from each token, between -most and most, counted from 0: (B, L, P)."""
    b, n, p = group.size
    own = positions.index_select(0, group.rows).reshape(b, n, 1)
    places = group.places.reshape(b, 1, p)
    return (places - own).clamp(-most, most) + most


def capped(query: Tensor, keys: Tensor, values: Tensor, mask: Any, attrs: Mapping[str, Any]) -> Tensor:
    """Attention whose scores are bounded by a softcap."""
    scores = torch.tanh(query @ keys.transpose(2, 3) * (attrs["scale"] / attrs["softcap"])) * attrs["softcap"]
    if mask is not None:
        scores = torch.where(mask, scores, -torch.inf) if mask.dtype is torch.bool else scores + mask
    return torch.softmax(scores, -1) @ values
