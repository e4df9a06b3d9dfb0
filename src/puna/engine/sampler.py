"""Choosing the next token from logits: penalties, filters, one seeded draw. One sampler belongs to one sequence.

Nothing but the logits, the sequence's own tokens and its seed decides, so a sequence samples the same text alone and
in any batch.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from puna.errors import ModelError, RequestError

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Options under Ollama's names, with its defaults. `seed` below 0 is a random one; temperature 0 takes the best.

    `top_k` 0 keeps all; `repeat_last_n` -1 looks at the whole sequence, 0 at nothing; `top_logprobs` None gives none,
    n the chosen token's and the n best.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = -1
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        """RequestError names an option whose value makes no sense."""
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = RANGES[field.name]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and isfinite(value) and low <= value <= high):
                raise RequestError(f"option '{field.name}' is {value!r}; it must be a number from {low} to {high}")


INF = float("inf")
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, INF),
    "top_k": (-1, INF),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_last_n": (-1, INF),
    "repeat_penalty": (1e-6, INF),
    "presence_penalty": (-INF, INF),
    "frequency_penalty": (-INF, INF),
    "seed": (-INF, INF),
    "top_logprobs": (0, 100),
}
"""Values each option may have."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A sampled token, with natural-log probabilities from the unmodified logits if they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Draws one token after another for one sequence."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = random.Random(sampling.seed if sampling.seed >= 0 else None)

    def choose(self, logits: F32, history: Sequence[int]) -> Choice:
        """The next token after `history` (prompt and what came since); `logits` (vocab,) are not changed.

        ModelError where they are no numbers to choose by.
        """
        if not isfinite(logits.max()):  # a NaN anywhere is the maximum
            raise ModelError(
                "choosing a token: the logits are not numbers; the file is damaged or its weights overflow; "
                "fetch or convert it again"
            )
        token = self._draw(penalized(logits, history, self.sampling))
        if self.sampling.top_logprobs is None:
            return Choice(token)
        return _with_logprobs(token, logits, self.sampling.top_logprobs)

    def _draw(self, logits: F32) -> int:
        s = self.sampling
        if s.temperature == 0:
            return int(np.argmax(logits))
        ids = best(logits, s.top_k if s.top_k > 0 else len(logits))
        p = softmax(logits[ids] / np.float32(max(s.temperature, 1e-7)))
        for keep, value in ((typical, s.typical_p), (nucleus, s.top_p), (likely, s.min_p)):
            kept = keep(p, value)
            ids, p = ids[kept], p[kept] / p[kept].sum()
        place = np.searchsorted(np.cumsum(p), self._random.random(), side="right")
        return int(ids[min(int(place), len(ids) - 1)])


def penalized(logits: F32, history: Sequence[int], s: Sampling) -> F32:
    """Logits after the repeat, presence and frequency penalties over the last tokens."""
    neutral = s.repeat_penalty == 1 and s.presence_penalty == 0 and s.frequency_penalty == 0
    if neutral or s.repeat_last_n == 0 or not history:
        return logits
    counts = Counter(history if s.repeat_last_n < 0 else history[-s.repeat_last_n :])
    ids = np.fromiter(counts.keys(), np.int64)
    times = np.fromiter(counts.values(), np.float32)
    seen = logits[ids]
    seen = np.where(seen > 0, seen / np.float32(s.repeat_penalty), seen * np.float32(s.repeat_penalty))
    out = logits.copy()
    out[ids] = seen - np.float32(s.presence_penalty) - times * np.float32(s.frequency_penalty)
    return out


def best(logits: F32, count: int) -> NDArray[np.int64]:
    """Ids of the `count` largest logits, largest first; of equals, the lower id first."""
    if count >= len(logits):
        return np.argsort(-logits, kind="stable")
    edge = np.partition(logits, len(logits) - count)[len(logits) - count]
    ids = np.flatnonzero(logits >= edge)
    return ids[np.argsort(-logits[ids], kind="stable")][:count]


def softmax(x: F32) -> NDArray[np.float64]:
    """In float64, so that sums over a vocabulary keep their last digits."""
    e = np.exp((x - x.max()).astype(np.float64))
    return np.asarray(e / e.sum())


def nucleus(p: NDArray[np.float64], top_p: float) -> slice:
    """The smallest head of sorted probabilities whose sum passes `top_p`."""
    return slice(None) if top_p >= 1 else slice(int(np.searchsorted(np.cumsum(p), top_p, side="right")) + 1)


def likely(p: NDArray[np.float64], min_p: float) -> NDArray[np.bool_]:
    """Those at least `min_p` times as probable as the best."""
    return np.asarray(p >= min_p * p.max())


def typical(p: NDArray[np.float64], typical_p: float) -> NDArray[np.bool_] | slice:
    """Those whose surprise is nearest to the entropy, until their sum passes `typical_p` (arXiv 2202.00666)."""
    if typical_p >= 1:
        return slice(None)
    surprise = -np.log(np.maximum(p, 1e-300))
    order = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
    kept = np.zeros(len(p), np.bool_)
    kept[order[: int(np.searchsorted(np.cumsum(p[order]), typical_p)) + 1]] = True
    return kept


def _with_logprobs(token: int, logits: F32, count: int) -> Choice:
    shifted = logits.astype(np.float64) - float(logits.max())
    logprobs = shifted - np.log(np.exp(shifted).sum())
    top = tuple((int(i), float(logprobs[i])) for i in best(logits, count)) if count else ()
    return Choice(token, float(logprobs[token]), top)
