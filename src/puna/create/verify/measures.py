"""How far apart two arrays are: relative squared errors, cosines, and what a difference of logits means.

`want` is what is held to be right. Everything is computed in float64, rows at a time where arrays are large.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ROWS = 16
"""Rows of logits worked on at once."""
DOT = 1 << 14


def row_errors(want: Array, got: Array, scale: Array | None = None) -> Array:
    """For each row, the squared error relative to the square of `scale`, which is `want` itself unless given.

    A row that is not finite counts as infinitely far off.
    """
    want, got = _rows(want), _rows(got)
    error = ((want - got) ** 2).sum(1)
    size = ((want if scale is None else _rows(scale)) ** 2).sum(1)
    with np.errstate(all="ignore"):
        out = np.where(error == 0, 0.0, error / size)
    return np.where(np.isnan(out), np.inf, out)


def _rows(array: Array) -> Array:
    return np.asarray(array, np.float64).reshape(len(array), -1)


def cosines(want: Array, got: Array) -> Array:
    """For each row."""
    want, got = _rows(want), _rows(got)
    with np.errstate(all="ignore"):
        return np.asarray((want * got).sum(1) / np.linalg.norm(want, axis=1) / np.linalg.norm(got, axis=1))


@dataclass
class Sums:
    """What of two tensors is added up band by band: `square` of the one wanted, `other` of the one found."""

    count: int = 0
    square: float = 0.0
    other: float = 0.0
    product: float = 0.0
    error: float = 0.0
    most: float = 0.0
    infinite: int = 0

    def add(self, want: Array, got: Array) -> None:
        """Count in a band of both."""
        a, b = np.asarray(want, np.float32).reshape(-1), np.asarray(got, np.float32).reshape(-1)
        self.count += a.size
        bad = int(b.size - np.isfinite(b).sum())
        self.infinite += bad
        if bad:
            return
        difference = a - b
        self.square += _dot(a, a)
        self.other += _dot(b, b)
        self.product += _dot(a, b)
        self.error += _dot(difference, difference)
        self.most = max(self.most, float(np.abs(difference).max(initial=0)))

    @property
    def nmse(self) -> float:
        """The squared error relative to the square of what is wanted."""
        if self.infinite:
            return float("inf")
        return self.error / self.square if self.square else (float("inf") if self.error else 0.0)

    @property
    def cosine(self) -> float:
        """Of both as vectors; 1 where both are zero."""
        length = float(np.sqrt(self.square) * np.sqrt(self.other))
        return min(self.product / length, 1.0) if length else float(self.square == self.other)

    @property
    def gain(self) -> float:
        """The factor by which the found one is larger, as far as it is parallel to the wanted one."""
        return self.product / self.square if self.square else 1.0


def _dot(a: Array, b: Array) -> float:
    """In float32 a few thousand at a time, which are added up in float64."""
    with np.errstate(over="ignore"):
        return sum(float(np.dot(a[i : i + DOT], b[i : i + DOT])) for i in range(0, len(a), DOT))


@dataclass
class Logits:
    """How two models' next-token distributions differ, a value for each row."""

    k: int = 10
    kl: list[float] = field(default_factory=list)  # Kullback-Leibler divergence, nats
    top1: list[bool] = field(default_factory=list)  # whether the best token is the same
    topk: list[float] = field(default_factory=list)  # which part of the k best tokens is the same
    loss: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))  # of the text's next token, nats


def compare_logits(want: Array, got: Array, tokens: Array) -> Logits:
    """(rows, vocabulary) both; `tokens` are the text's, one a row. `k` is at most a quarter of the vocabulary."""
    out = Logits(k=max(1, min(10, want.shape[1] // 4)))
    for start in range(0, len(want), ROWS):
        band = slice(start, start + ROWS)
        a, b = (_log_softmax(np.asarray(x[band], np.float64)) for x in (want, got))
        kl = (np.exp(a) * (a - b)).sum(1)
        out.kl += [float(x) if np.isfinite(x) else float("inf") for x in kl]
        out.top1 += (a.argmax(1) == b.argmax(1)).tolist()
        best = (np.argpartition(-x, out.k - 1, axis=1)[:, : out.k] for x in (a, b))
        out.topk += [len(np.intersect1d(p, q)) / out.k for p, q in zip(*best, strict=True)]
        following = tokens[start + 1 : start + 1 + len(a)]
        for losses, x in zip(out.loss, (a, b), strict=True):
            losses += (-x[np.arange(len(following)), following]).tolist()
    return out


def _log_softmax(x: Array) -> Array:
    with np.errstate(all="ignore"):
        x = x - x.max(1, keepdims=True)
        return np.asarray(x - np.log(np.exp(x).sum(1, keepdims=True)))
