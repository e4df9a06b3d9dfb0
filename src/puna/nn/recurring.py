"""What goes through a sequence token after token."""

from __future__ import annotations

from puna.cache import Batch
from puna.graph import Tensor, constant
from puna.graph.ops import apply
from puna.nn.declared import Weight


def causal_conv1d(x: Tensor, w: Weight, batch: Batch, state: Tensor) -> Tensor:
    """Convolve each column of (T, D) with its (D, L) weights over the latest L rows, then add its bias: (T, D).

    `state` (slots, L - 1, D) keeps a sequence's last rows.
    """
    y = apply("causal_conv1d", state, x, w.weight, batch.sequence, batch.state_from, batch.state_to)
    return y if w.bias is None else y + w.bias


def way_back(x: Tensor, batch: Batch, state: Tensor) -> Tensor:
    """The row before each of (T, D) in its own sequence, minus the row: (T, D); zeros are before the first.

    `state` (slots, 1, D) keeps a sequence's last row.
    """
    taps = apply("expand", constant([[1.0, -1.0]]), shape=(x.shape[1], 2))
    return causal_conv1d(x, Weight(taps), batch, state)


def recurrence(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    batch: Batch,
    state: Tensor,
    *,
    rates: Tensor | None = None,
    added: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Token after token S = diag(w) S + b (a S) + k v and y = r S, for each head's S (K, V): (T, H, V).

    r, k, and a and b if they are `added`, are (T, H, K), v (T, H, V), w (T, H, K) or (T, H, 1), or with `rates` (H, K)
    or (H, 1) exp(w * rates). `state` (slots, H, K, V) keeps S.
    """
    a, b = added or (None, None)
    return apply("recurrence", state, r, w, k, v, a, b, rates, batch.sequence, batch.state_from, batch.state_to)
