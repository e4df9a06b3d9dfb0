"""What a batch looks like to an architecture, and the kinds of memory its blocks keep between steps.

A cache is declared by the architecture, allocated by the program, and addressed by the batch: position p of sequence s
lives in slot table[s, p // BLOCK] * BLOCK + p % BLOCK, of a table for each reach, so that memory which is read no more
can be used again. Memory of one size for a whole sequence has slots of its own (puna.graph.recurrent). Which sequence
gets which is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    `outputs` (O,) are the rows whose results are wanted; `types` (T,) tells the texts of a pair apart: 0 or 1. Memory
    per sequence is taken from slot `state_from` (S,), below 0 from zeros, and left in `state_to` (S,), which no other
    sequence names. `places` are slots and table by reach; those of reach 0 are `slots` and `table`. What an encoder
    read has places of its own: `read_slots` (T,), where the encoder writes, `read_table` (S, W), `read_lengths` (S,).
    All I32.
    """

    tokens: Tensor
    positions: Tensor
    sequence: Tensor
    slots: Tensor
    table: Tensor
    lengths: Tensor
    outputs: Tensor
    types: Tensor
    state_from: Tensor
    state_to: Tensor
    places: Mapping[int, tuple[Tensor, Tensor]]
    read_slots: Tensor
    read_table: Tensor
    read_lengths: Tensor


def place_names(reach: int) -> tuple[str, str]:
    """What a reach's slots and table are called among the inputs."""
    return (f"slots.{reach}", f"table.{reach}") if reach else ("slots", "table")


def batch(table_width: int, reaches: Iterable[int] = ()) -> Batch:
    """The batch's input nodes: a table of `table_width` blocks for full reach, and one for each of `reaches`."""
    tokens, positions, sequence, types, read_slots = (
        input_(name, (T,), dtypes.I32) for name in ("tokens", "positions", "sequence", "types", "read_slots")
    )
    places = {}
    for reach in {0, *reaches}:
        slots, table = place_names(reach)
        places[reach] = input_(slots, (T,), dtypes.I32), input_(table, (S, table_width), dtypes.I32)
    by_sequence = ("lengths", "state_from", "state_to", "read_lengths")
    lengths, before, after, read_lengths = (input_(name, (S,), dtypes.I32) for name in by_sequence)
    outputs = input_("outputs", (O,), dtypes.I32)
    read = read_slots, input_("read_table", (S, table_width), dtypes.I32), read_lengths
    return Batch(tokens, positions, sequence, *places[0], lengths, outputs, types, before, after, places, *read)


@dataclass(frozen=True, slots=True)
class Spec:
    """One block's memory: for each position, `heads` K/V heads of `key_size` and `value_size`; none where 0.

    `window` > 0 limits what a token reads to the nearest positions, `chunk` > 0 to its own chunk of so many; an
    `encoder`'s tokens read their whole sequence, later positions too, and nothing outlives the step. `read`: positions
    are those of a text that an encoder read, which wrote here, and tokens read all of them. `recurrent` are
    shapes of what it keeps for each sequence, as float32, however long that is: a convolution's latest rows
    (L - 1, D), a recurrence's (H, K, V).
    """

    heads: int
    key_size: int
    value_size: int
    window: int = 0
    encoder: bool = False
    chunk: int = 0
    read: bool = False
    recurrent: tuple[tuple[int, ...], ...] = ()

    @property
    def reach(self) -> int:
        """How many of the latest positions a token reads at most, its own with them; 0: all."""
        return 0 if self.encoder else self.window or self.chunk

    @property
    def sequence_bytes(self) -> int:
        """What one sequence takes besides its positions."""
        return sum(dtypes.F32.nbytes(shape) for shape in self.recurrent)


@dataclass(frozen=True, slots=True)
class KV:
    """The states behind one Spec.

    `kept`: keys (C, heads, key_size) and values (C, heads, value_size), or nothing. `recurrent`: one a shape, with a
    slot for each sequence before it.
    """

    spec: Spec
    kept: tuple[Tensor, ...]
    recurrent: tuple[Tensor, ...] = ()

    @property
    def k(self) -> Tensor:
        """The keys."""
        return self.kept[0]

    @property
    def v(self) -> Tensor:
        """The values."""
        return self.kept[1]


def encoder(n_blocks: int, heads: int, size: int) -> list[Spec]:
    """No block remembers anything; tokens see both ways."""
    return [Spec(heads, size, size, encoder=True)] * n_blocks


def recurrent(*shapes: tuple[int, ...]) -> Spec:
    """Memory of one size for a whole sequence, and none for positions."""
    return Spec(0, 0, 0, recurrent=shapes)


def reaches(specs: Iterable[Spec]) -> list[int]:
    """The reaches of blocks that do not read all positions, rising."""
    return sorted({spec.reach for spec in specs} - {0})


def states(
    specs: Sequence[Spec],
    slots: int,
    sequences: int,
    dtype: DType,
    windows: Mapping[int, int] = {},
    name: str = "cache",
) -> list[KV]:
    """State nodes for each spec: `slots` positions in all, or what `windows` says by reach, and `sequences` memories.

    An encoder's K/V are float32. Their names begin with `name`.
    """

    def kv(i: int, spec: Spec) -> KV:
        sizes = (("k", spec.key_size), ("v", spec.value_size)) if spec.heads else ()
        kind = dtypes.F32 if spec.encoder else dtype
        room = windows.get(spec.reach, slots)
        kept = [state(f"{name}.{i}.{part}", (room, spec.heads, size), kind) for part, size in sizes]
        named = enumerate(spec.recurrent)
        return KV(
            spec,
            tuple(kept),
            tuple(state(f"{name}.{i}.state{n}", (sequences, *shape), dtypes.F32) for n, shape in named),
        )

    return [kv(i, spec) for i, spec in enumerate(specs)]
