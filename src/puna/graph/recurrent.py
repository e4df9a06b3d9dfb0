"""Ops with memory per sequence: what goes on from step to step is of one size, however long the text.

A state has a slot for each memory. The tokens of sequence s go on from slot state_from[s], or from zeros where that is
below 0, and leave what they end with in slot state_to[s]; rows of one sequence follow each other, in order. No other
sequence may be given a slot that one leaves its memory in.

Both are core ops: core ops have no loop over tokens, and give one value, not a result and a changed state.
"""

from __future__ import annotations

from puna import dtypes
from puna.dtypes import DType
from puna.graph.ops import F32_NMSE, Attrs, Inputs, Op, define, require
from puna.graph.tensor import Shape, Tensor


def _sequences(op: str, inputs: Inputs, state: Tensor, x: Tensor, places: Inputs) -> None:
    """What both ask for: a state, and where each row's sequence has its memory."""
    sequence, before, after = places
    require(op, state.op in ("state", "write") and state.dtype is dtypes.F32, "needs an F32 state", inputs)
    require(op, sequence.shape == x.shape[:1], "needs one sequence a row", inputs)
    fits = len(before.shape) == 1 and before.shape == after.shape
    require(op, fits and all(i.dtype is dtypes.I32 for i in places), "needs I32 slots, two a sequence", inputs)


def _causal_conv1d(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    state, x, w, *places = inputs
    op = "causal_conv1d"
    fits = len(state.shape) == 3 and len(x.shape) == len(w.shape) == 2 and x.dtype is w.dtype is dtypes.F32
    require(op, fits, "needs F32 (slots, L - 1, D), (T, D) and (D, L)", inputs)
    same = (w.shape[0], w.shape[1] - 1) == (x.shape[1], state.shape[1]) and state.shape[2] == x.shape[1]
    require(op, same and state.shape[1] > 0, "sizes differ, or there is nothing to look back on", inputs)
    _sequences(op, inputs, state, x, tuple(places))
    return x.shape, dtypes.F32


def _recurrence(inputs: Inputs, attrs: Attrs) -> tuple[Shape, DType]:
    state, r, w, k, v, a, b, rates, *places = inputs
    op, given = "recurrence", [i for i in (r, w, k, v, a, b) if i is not None]
    require(op, all(len(i.shape) == 3 and i.dtype is dtypes.F32 for i in given), "needs F32 (T, H, size)", inputs)
    rows, heads, size = r.shape
    require(op, all(i.shape == r.shape for i in (k, a, b) if i is not None), "r, k, a and b differ", inputs)
    require(op, v.shape[:2] == w.shape[:2] == (rows, heads) and w.shape[2] in (1, size), "v or w do not fit", inputs)
    require(op, (a is None) == (b is None), "a and b come together", inputs)
    fits = rates is None or (rates.dtype is dtypes.F32 and rates.shape in ((heads, 1), (heads, size)))
    require(op, fits, "rates are F32 (H, K) or (H, 1)", inputs)
    require(op, state.shape[1:] == (heads, size, v.shape[2]), "the state is not (slots, H, K, V)", inputs)
    _sequences(op, inputs, state, r, tuple(places))
    return v.shape, dtypes.F32


for _op in (
    Op(
        "causal_conv1d",
        "Each column's own convolution over the rows of its sequence: w[:, L - 1] times the row itself, w[:, L - 2] "
        "the one before ... The state keeps each sequence's last L - 1 rows.",
        _causal_conv1d,
        F32_NMSE,
        changes=True,
    ),
    Op(
        "recurrence",
        "Row by row of its sequence, for each head: S = diag(w) S + b (a S) + k v, y = r S, where S is (K, V) and the "
        "state keeps it. w is (T, H, K), or (T, H, 1), one for all K; with `rates`, (H, K) or (H, 1), it is "
        "exp(w rates). a and b may be absent. Inputs: state, r, w, k, v, a, b, rates, sequence, state_from, state_to.",
        _recurrence,
        F32_NMSE,
        changes=True,
    ),
):
    define(_op)
