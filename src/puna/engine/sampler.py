"""Choosing the next token from logits: penalties, filters, one seeded draw. One sampler belongs to one sequence.

Nothing but the logits, the sequence's own tokens and its seed decides, so a sequence samples the same text alone and
in any batch.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from puna.backends.selection import best
from puna.engine.draw import Best, draw
from puna.engine.mirostat import Mirostat
from puna.errors import ModelError, RequestError

F32 = NDArray[np.float32]


class Rules(Protocol):
    """What an answer is held to, and how far it has come in that."""

    @property
    def complete(self) -> bool:
        """Whether nothing can come any more but the end."""
        ...

    def masked(self, logits: F32) -> F32:
        """Logits (vocab,), minus infinity for every token that may not come."""
        ...

    def take(self, token: int) -> list[int]:
        """Go on with a token; what must come after it, if that is certain."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Options under Ollama's names, with its defaults. `seed` below 0 is a random one; temperature 0 takes the best.

    `top_k` 0 keeps all; `repeat_last_n` -1 looks at the whole sequence, 0 at nothing; `top_logprobs` None gives none,
    n the chosen token's and the n best. `mirostat` 1 or 2 takes the place of all filters. `logit_bias`: what is added
    to the logits of tokens, by id.
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
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        """RequestError names an option whose value makes no sense."""
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and isfinite(value) and low <= value <= high):
                raise RequestError(f"option '{name}' is {value!r}; it must be a number from {low} to {high}")


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
    "mirostat": (0, 2),
    "mirostat_tau": (0, INF),
    "mirostat_eta": (0, 1),
}
"""Values each option may have."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A sampled token, with natural-log probabilities from the unmodified logits if they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Draws one token after another for one sequence; `find` is the backend's way to the best ids.

    With a `constraint` only what it allows can come.
    """

    def __init__(self, sampling: Sampling, find: Best = best, constraint: Rules | None = None) -> None:
        self.sampling = sampling
        self.constraint = constraint
        self._best = find
        self._mirostat = Mirostat(sampling.mirostat, sampling.mirostat_tau, sampling.mirostat_eta)
        self._random = random.Random(sampling.seed if sampling.seed >= 0 else None)

    def choose(self, logits: F32, history: Sequence[int]) -> Choice:
        """The next token after `history` (prompt and what came since); `logits` (vocab,) are not changed.

        ModelError where they are no numbers to choose by.
        """
        first = int(logits.argmax())
        if not isfinite(logits[first]):  # a NaN anywhere is the maximum
            raise ModelError(
                "choosing a token: the logits are not numbers; the file is damaged or its weights overflow; "
                "fetch or convert it again"
            )
        changed = penalized(biased(logits, self.sampling.logit_bias), history, self.sampling)
        changed = self.constraint.masked(changed) if self.constraint else changed
        if self.sampling.temperature > 0 and self.sampling.mirostat:
            token = self._mirostat.draw(changed, self.sampling.temperature, self._random.random())
        elif self.sampling.temperature > 0:
            token = draw(changed, self.sampling, self._random.random(), self._best)
        else:
            token = first if changed is logits else int(changed.argmax())
        if self.sampling.top_logprobs is None:
            return Choice(token)
        return with_logprobs(token, logits, self.sampling.top_logprobs, self._best)

    def foreseen(self, vocabulary: int) -> Sampler:
        """One that draws as this one is going to, of so many tokens, and knows of no constraint; this one stays."""
        other = copy(self)
        bias = tuple(each for each in self.sampling.logit_bias if each[0] < vocabulary)
        other.sampling = replace(self.sampling, top_logprobs=None, logit_bias=bias)
        other.constraint = None
        other._mirostat, other._random = copy(self._mirostat), copy(self._random)
        return other


def biased(logits: F32, bias: Sequence[tuple[int, float]]) -> F32:
    """Logits with what a request adds to those of some tokens; RequestError for an id that is none."""
    if not bias:
        return logits
    out = logits.copy()
    for token, more in bias:
        if not 0 <= token < len(out):
            raise RequestError(f"option 'logit_bias': token {token} is none of 0 to {len(out) - 1}")
        out[token] += np.float32(more)
    return out


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


def with_logprobs(token: int, logits: F32, count: int, find: Best) -> Choice:
    """A token with its log-probability by `logits` (vocab,), and those of the `count` best."""
    shifted = logits.astype(np.float64) - float(logits.max())
    logprobs = shifted - np.log(np.exp(shifted).sum())
    top = tuple((int(i), float(logprobs[i])) for i in find(logits, count)) if count else ()
    return Choice(token, float(logprobs[token]), top)
