"""Attention, and what a sequence remembers for it."""

from __future__ import annotations

from collections.abc import Sequence

from puna.cache import BLOCK, KV, Batch, Spec
from puna.errors import ModelError
from puna.graph import Tensor, constant
from puna.graph.ops import apply
from puna.nn.declared import Weight
from puna.nn.shapes import flat


def memories(kinds: Sequence[object], owners: int) -> tuple[int, ...]:
    """Whose memory each block reads: the first `owners` their own, others that of the last owner of their kind."""
    out = list(range(owners))
    for i in range(owners, len(kinds)):
        same = [j for j in range(owners) if kinds[j] == kinds[i]]
        if not same:
            raise ModelError(f"block {i} reads what another block of its kind remembers, but none of {owners} does")
        out.append(same[-1])
    return tuple(out)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    batch: Batch,
    kv: KV,
    *,
    scale: float,
    softcap: float = 0.0,
    sinks: Weight | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Write (T, K, D) keys and values to the cache, then attend from (T, H, D) queries: (T, H * D).

    `softcap` bounds the scores; `sinks` is one more score a head, without a value; `bias` (H, 2R + 1) is added to
    scores by distance, from -R to R and beyond.
    """
    return attend(q, batch, remember(k, v, batch, kv), scale=scale, softcap=softcap, sinks=sinks, bias=bias)


def remember(k: Tensor, v: Tensor, batch: Batch, kv: KV) -> KV:
    """The memory after (T, K, D) keys and values were written to it."""
    slots = batch.read_slots if kv.spec.read else batch.places[kv.spec.reach][0]
    keys, values = (apply("write", s, slots, x) for s, x in ((kv.k, k), (kv.v, v)))
    return KV(kv.spec, (keys, values), kv.recurrent)


def attend(
    q: Tensor,
    batch: Batch,
    kv: KV,
    *,
    scale: float,
    softcap: float = 0.0,
    sinks: Weight | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attend from (T, H, D) queries to what was remembered, by this block or by another one: (T, H * D)."""
    usual, read = (batch.places[kv.spec.reach][1], batch.lengths), (batch.read_table, batch.read_lengths)
    out = apply(
        "attention",
        *(q, kv.k, kv.v, batch.positions, batch.sequence, *(read if kv.spec.read else usual)),
        None if sinks is None else sinks.weight,
        *(() if bias is None else (bias,)),
        scale=float(scale),
        causal=not (kv.spec.encoder or kv.spec.read),
        window=kv.spec.window,
        chunk=kv.spec.chunk,
        softcap=float(softcap),
        block_size=BLOCK,
    )
    return flat(out)


def room(batch: Batch) -> int:
    """The positions that a sequence has at most, which bound all distances; ModelError where they are no number."""
    _, blocks = batch.table.shape
    if not isinstance(blocks, int):
        raise ModelError(f"the table of blocks is {batch.table!r}; a number of columns would work")
    return blocks * BLOCK


def mean_cache(width: int) -> Spec:
    """What `sequence_mean` of rows of this width needs."""
    return Spec(1, 1, width, encoder=True)


def sequence_mean(x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """The mean of the rows of each token's whole sequence, which has to be in one step: (T, D) to (T, D)."""
    rows, size = x.shape
    nothing = apply("expand", constant([[[0.0]]]), shape=(rows, 1, 1))
    return attention(nothing, nothing, x.reshape(rows, 1, size), batch, kv, scale=1.0)
