"""What a batch looks like to an architecture, and the kinds of memory its blocks keep between steps.

A cache is declared by the architecture, allocated by the program, and addressed by the batch: position p of sequence s
lives in slot table[s, p // BLOCK] * BLOCK + p % BLOCK. Which sequence gets which blocks is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import dtypes
from puna.dtypes import DType
from puna.graph import O, S, T, Tensor, input_, state

BLOCK = 64
"""Positions in one block of slots."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of one step: a flat, ragged batch of tokens.

    `tokens`, `positions`, `sequence` (which row of `table`) and `slots` (where the token's K/V is written) are (T,);
    `table` is (S, W) block numbers, unused entries 0; `lengths` (S,) counts each sequence's positions after this step;
    `outputs` (O,) are the rows whose results are wanted; `types` (T,) tells the texts of a pair apart: 0 or 1. All I32.
    """

    tokens: Tensor
    positions: Tensor
    sequence: Tensor
    slots: Tensor
    table: Tensor
    lengths: Tensor
    outputs: Tensor
    types: Tensor


def batch(table_width: int) -> Batch:
    """The batch's input nodes, for tables of `table_width` blocks."""
    tokens, positions, sequence, slots, types = (
        input_(name, (T,), dtypes.I32) for name in ("tokens", "positions", "sequence", "slots", "types")
    )
    table = input_("table", (S, table_width), dtypes.I32)
    lengths = input_("lengths", (S,), dtypes.I32)
    outputs = input_("outputs", (O,), dtypes.I32)
    return Batch(tokens, positions, sequence, slots, table, lengths, outputs, types)


@dataclass(frozen=True, slots=True)
class Spec:
    """One block's K/V memory: `heads` K/V heads of `key_size` and `value_size`.

    `window` > 0 limits what a token reads to the nearest positions, `chunk` > 0 to its own chunk of so many; an
    `encoder`'s tokens read their whole sequence, later positions too, and nothing outlives the step. Without values it
    keeps plain rows, `key_size` wide.
    """

    heads: int
    key_size: int
    value_size: int
    window: int = 0
    encoder: bool = False
    chunk: int = 0

    @property
    def exact(self) -> bool:
        """Whether it is kept as float32: what nothing outlives, and rows that are computed with."""
        return self.encoder or not self.value_size


@dataclass(frozen=True, slots=True)
class KV:
    """The states behind one Spec: `k` (C, heads, key_size), `v` (C, heads, value_size); of rows both are (C, width)."""

    spec: Spec
    k: Tensor
    v: Tensor


def encoder(n_blocks: int, heads: int, size: int) -> list[Spec]:
    """No block remembers anything; tokens see both ways."""
    return [Spec(heads, size, size, encoder=True)] * n_blocks


def rows(width: int) -> Spec:
    """What a convolution looks back on: a row for each position."""
    return Spec(1, width, 0)


def states(specs: Sequence[Spec], slots: int, dtype: DType) -> list[KV]:
    """State nodes for each spec, `slots` positions in all, float32 or as they are asked for."""

    def kv(i: int, spec: Spec) -> KV:
        kind = dtypes.F32 if spec.exact else dtype
        if not spec.value_size:
            row = state(f"cache.{i}.rows", (slots, spec.key_size), kind)
            return KV(spec, row, row)
        k, v = (
            state(f"cache.{i}.{part}", (slots, spec.heads, size), kind)
            for part, size in (("k", spec.key_size), ("v", spec.value_size))
        )
        return KV(spec, k, v)

    return [kv(i, spec) for i, spec in enumerate(specs)]
