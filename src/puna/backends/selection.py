"""The best of a vocabulary without sorting it: the definition, in numpy, of what a backend may do faster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

STRIPES = 64
"""Logits are compared in this many stripes: the maxima over them say how good the n best are at least."""


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
