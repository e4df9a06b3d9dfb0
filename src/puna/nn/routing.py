"""Which experts a token is given to, and how their results are weighed."""

from __future__ import annotations

from puna.dtypes import F32
from puna.errors import ModelError
from puna.graph import Tensor, constant
from puna.graph.ops import apply
from puna.nn.declared import Weight
from puna.nn.elements import sigmoid, silu_mul
from puna.nn.products import experts
from puna.nn.shapes import concat, heads

SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN = 1, 2, 3
"""What makes scores of a router's outputs, as GGUF numbers it: over all experts, each by itself, over those chosen."""


def route(
    outputs: Tensor,
    used: int,
    *,
    gating: int = SOFTMAX,
    bias: Weight | None = None,
    groups: int = 1,
    groups_used: int = 1,
    normed: bool = False,
    scale: float = 1.0,
    eps: float = 1e-20,
) -> tuple[Tensor, Tensor]:
    """The ids and the shares (T, used) of the experts that a router's outputs (T, E) choose; best first.

    `bias` (E,) chooses but does not weigh; only the best `groups_used` of `groups` are chosen from; `normed` shares sum
    to 1 (but for `eps`) before they are multiplied by `scale`. ModelError for another gating.
    """
    if gating not in (SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN):
        raise ModelError(f"experts: the gating is {gating!r}; 1 (softmax), 2 (sigmoid) or 3 (of chosen) would work")
    scores = softmax(outputs) if gating == SOFTMAX else sigmoid(outputs) if gating == SIGMOID else outputs
    ids = top_k(_eligible(scores, bias, groups, groups_used), used)
    shares = pick(scores, ids)
    if gating == SOFTMAX_OF_CHOSEN:
        shares = softmax(shares)
    if normed:
        shares = shares / (shares.sum(1) + eps)
    return ids, shares if scale == 1.0 else shares * scale


def route_sparsely(outputs: Tensor, nearly: float) -> tuple[Tensor, Tensor]:
    """The ids and the shares (T, 2) of the best two experts of a router's outputs (T, E).

    A share is a softmax among the experts that are not better, and worse by at most `nearly` of the larger of their
    output and the best one (https://arxiv.org/abs/2409.12136, at inference).
    """
    ids = top_k(outputs, 2)
    best = pick(outputs, ids)
    first = is_among(ids.slice(1, 0, 1), int(outputs.shape[1]))  # type: ignore[arg-type]  # it is no symbolic one
    shares = []
    for place, taken in ((0, first * 0.0), (1, first)):
        top = best.slice(1, place, place + 1)
        far = apply("less", constant(nearly), (top - outputs) / apply("maximum", apply("abs", outputs), top))
        near = apply("where", far, constant(0.0), apply("exp", apply("minimum", outputs - top, constant(0.0))))
        shares.append(1.0 / (near * (1.0 - taken)).sum(1))
    return ids, concat(1, *shares)


def _eligible(scores: Tensor, bias: Weight | None, groups: int, used: int) -> Tensor:
    """What experts are chosen by (T, E): scores with their bias, 0 outside the best groups.

    A group is as good as its best expert, or with a bias as its best two together.
    """
    scores = scores if bias is None else scores + bias.weight
    if groups == used:
        return scores
    grouped = heads(scores, groups)
    best = pick(grouped, top_k(grouped, 1 if bias is None else 2)).sum(2)
    chosen = is_among(top_k(best.reshape(best.shape[0], groups), used), groups)
    return (grouped * chosen.reshape(chosen.shape[0], groups, 1)).reshape(*scores.shape)


def softmax(x: Tensor) -> Tensor:
    """Over the last axis."""
    return apply("softmax", x)


def top_k(x: Tensor, count: int) -> Tensor:
    """Places (..., count) of the largest elements of (..., E) rows, falling; of equals the first."""
    return apply("top_k", x, count=count)


def pick(x: Tensor, ids: Tensor) -> Tensor:
    """x[..., ids]: (..., E) and (..., k) to (..., k)."""
    *lead, size = x.shape
    values = apply("where", _chosen(ids, int(size)), x.reshape(*lead, 1, size), constant(0.0))  # type: ignore[arg-type]
    return values.sum(len(lead) + 1).reshape(*ids.shape)


def is_among(ids: Tensor, size: int) -> Tensor:
    """1.0 for the numbers below `size` that are among the ids of a row, else 0.0: (T, k) to (T, size)."""
    return _chosen(ids, size).cast(F32).max(1).reshape(ids.shape[0], size)


def _chosen(ids: Tensor, size: int) -> Tensor:
    """Whether each of (..., k) ids is each number below `size`: (..., k, size)."""
    ones = (1,) * len(ids.shape)
    return apply("equal", ids.reshape(*ids.shape, 1), apply("iota", size=size).reshape(*ones, size))


def gated_experts(x: Tensor, ids: Tensor, shares: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
    """The chosen experts' gated SiLU, each (T, hidden) result times its share (T, k), in one sum: (T, hidden)."""
    return weighed(experts(silu_mul(experts(x, gate, ids), experts(x, up, ids)), down, ids), shares)


def weighed(y: Tensor, shares: Tensor) -> Tensor:
    """The sum of (T, k, N) results, each times its share (T, k): (T, N)."""
    rows, count, size = y.shape
    return (y * shares.reshape(rows, count, 1)).sum(1).reshape(rows, size)
