"""From logits to one token: which ids are the best, which of them may be drawn, and which one a random number means.

Only what a draw can reach is sorted, never the vocabulary; how much was sorted does not show in the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from puna.engine.sampler import Sampling

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STRIPES = 64
"""Logits are compared in this many stripes: the maxima over them say how good the n best are at least."""

HEAD = 1024
"""Candidates that are sorted first where every token is one; more only if the draw lies beyond them."""


def best(logits: F32, count: int) -> NDArray[np.int64]:
    """Ids of the `count` largest logits, largest first; of equals, the lower id first. No logit is NaN."""
    ids = np.flatnonzero(logits >= _edge(logits, count)) if count < len(logits) else np.arange(len(logits))
    return ids[np.argsort(-logits[ids], kind="stable")[:count]]


def _edge(logits: F32, count: int) -> float:
    """A value that at least `count` logits reach, and not many more."""
    columns = len(logits) // STRIPES
    if 2 * count > columns:
        return float(np.partition(logits, len(logits) - count)[len(logits) - count])
    tops = logits[: STRIPES * columns].reshape(STRIPES, columns).max(0)
    return float(np.partition(tops, columns - count)[columns - count])


def draw(logits: F32, s: Sampling, chance: float) -> int:
    """The token that `chance` (from 0 up to 1) means, with the candidates laid end to end, the most probable first.

    The temperature is above 0. Filters narrow the candidates in turn: top_k, typical_p, top_p, min_p.
    """
    ids, weights, total = _candidates(logits, s, chance)
    sums = weights.cumsum()
    if s.top_p < 1:
        sums = sums[: sums.searchsorted(s.top_p * total, "right") + 1]
    if s.min_p:
        sums = sums[: np.count_nonzero(weights[: len(sums)] >= s.min_p * weights[0])]
    if s.top_p < 1 or s.min_p:
        total = sums[-1]
    place = int(sums.searchsorted(chance * total, "right"))
    return int(ids[min(place, len(sums) - 1)])


def _candidates(logits: F32, s: Sampling, chance: float) -> tuple[NDArray[np.int64], F64, np.float64]:
    """The best ids, their weights, and the sum of all candidates' weights, some of which may be out of reach."""
    if 0 < s.top_k < len(logits):
        ids, weights = _weighed(logits, s, s.top_k)
    elif s.typical_p < 1 or len(logits) <= HEAD:
        ids, weights = _weighed(logits, s, len(logits))
    else:
        with np.errstate(over="ignore"):  # of a logit that is as good as minus infinity
            total = np.exp((logits - logits.max()) * np.float32(_scale(s))).sum(dtype=np.float64)
        ids, weights = _weighed(logits, s, HEAD)
        reach = (s.top_p if s.top_p < 1 or s.min_p else chance) * total
        if weights.sum() <= reach and weights[-1] >= s.min_p:
            ids, weights = _weighed(logits, s, len(logits))
        return ids, weights, total
    if s.typical_p < 1:
        kept = typical(weights / weights.sum(), s.typical_p)
        ids, weights = ids[kept], weights[kept]
    return ids, weights, weights.sum()


def _weighed(logits: F32, s: Sampling, count: int) -> tuple[NDArray[np.int64], F64]:
    """The best ids, and their probabilities relative to the best one's."""
    ids = best(logits, count)
    return ids, np.exp((logits[ids] - logits[ids[0]]).astype(np.float64) * _scale(s))


def _scale(s: Sampling) -> float:
    return 1 / max(s.temperature, 1e-7)


def typical(p: F64, typical_p: float) -> NDArray[np.bool_]:
    """Those whose surprise is nearest to the entropy, until their sum passes `typical_p` (arXiv 2202.00666)."""
    surprise = -np.log(np.maximum(p, 1e-300))
    order = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
    kept = np.zeros(len(p), np.bool_)
    kept[order[: int(np.searchsorted(np.cumsum(p[order]), typical_p)) + 1]] = True
    return kept
