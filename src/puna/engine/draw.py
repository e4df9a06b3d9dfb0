"""From logits to one token: which ids may be drawn, and which one a random number means.

Only what a draw can reach is sorted, never the vocabulary; how much was sorted does not show in the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from puna.engine.sampler import Sampling

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Best = Callable[[F32, int], NDArray[np.int64]]
"""Ids of so many of the largest logits, largest first; of equals, the lower id first."""

HEAD = 1024
"""Candidates that are sorted first where every token is one; more only if the draw lies beyond them."""


def draw(logits: F32, s: Sampling, chance: float, best: Best) -> int:
    """The token that `chance` (from 0 up to 1) means, with the candidates laid end to end, the most probable first.

    The temperature is above 0. Filters narrow the candidates in turn: top_k, typical_p, top_p, min_p.
    """
    ids, weights, total = _candidates(logits, s, chance, best)
    sums = weights[: np.count_nonzero(weights)].cumsum()  # what has no weight can never come
    if s.top_p < 1:
        sums = sums[: sums.searchsorted(s.top_p * total, "right") + 1]
    if s.min_p:
        sums = sums[: np.count_nonzero(weights[: len(sums)] >= s.min_p * weights[0])]
    if s.top_p < 1 or s.min_p:
        total = sums[-1]
    place = int(sums.searchsorted(chance * total, "right"))
    return int(ids[min(place, len(sums) - 1)])


def _candidates(logits: F32, s: Sampling, chance: float, best: Best) -> tuple[NDArray[np.int64], F64, np.float64]:
    """The best ids, their weights, and the sum of all candidates' weights, some of which may be out of reach."""
    if 0 < s.top_k < len(logits):
        ids, weights = _weighed(logits, s, best(logits, s.top_k))
    elif s.typical_p < 1 or len(logits) <= HEAD:
        ids, weights = _weighed(logits, s, best(logits, len(logits)))
    else:
        with np.errstate(over="ignore"):  # of a logit that is as good as minus infinity
            total = np.exp((logits - logits.max()) * np.float32(_scale(s))).sum(dtype=np.float64)
        ids, weights = _weighed(logits, s, best(logits, HEAD))
        reach = (s.top_p if s.top_p < 1 or s.min_p else chance) * total
        if weights.sum() <= reach and weights[-1] >= s.min_p:
            ids, weights = _weighed(logits, s, best(logits, len(logits)))
        return ids, weights, total
    if s.typical_p < 1:
        kept = typical(weights / weights.sum(), s.typical_p)
        ids, weights = ids[kept], weights[kept]
    return ids, weights, weights.sum()


def _weighed(logits: F32, s: Sampling, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], F64]:
    """The ids, the best one first, and their probabilities relative to its."""
    values = logits[ids].astype(np.float64)
    return ids, np.exp((values - values[0]) * _scale(s))


def _scale(s: Sampling) -> float:
    return 1 / max(s.temperature, 1e-7)


def typical(p: F64, typical_p: float) -> NDArray[np.bool_]:
    """Those whose surprise is nearest to the entropy, until their sum passes `typical_p` (arXiv 2202.00666)."""
    surprise = -np.log(np.maximum(p, 1e-300))
    order = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
    kept = np.zeros(len(p), np.bool_)
    kept[order[: int(np.searchsorted(np.cumsum(p[order]), typical_p)) + 1]] = True
    return kept
