"""Mirostat (arXiv 2007.14966): drawing so that the surprise of a text stays near a target, in bits a token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
ESTIMATED = 100
"""How many of the best tokens version 1 estimates the exponent of their distribution from."""


class Mirostat:
    """The state of one sequence: `version` 1 or 2, the target `tau`, and the rate `eta` of learning."""

    def __init__(self, version: int, tau: float, eta: float) -> None:
        self._version, self._tau, self._eta = version, tau, eta
        self._most = 2 * tau  # surprise that a candidate may have

    def draw(self, logits: NDArray[np.float32], temperature: float, chance: float) -> int:
        """The token that `chance` (from 0 up to 1) means among those that are not too surprising; learns from it."""
        order = np.argsort(-logits, kind="stable")
        values = logits[order].astype(np.float64)
        p = np.exp((values - values[0]) / max(temperature, 1e-7))
        p /= p.sum()
        kept = p[: self._count(p)]
        place = int(kept.cumsum().searchsorted(chance * kept.sum(), "right"))
        place = min(place, len(kept) - 1)
        self._most -= self._eta * (-np.log2(kept[place] / kept.sum()) - self._tau)
        return int(order[place])

    def _count(self, p: F64) -> int:
        """How many of the candidates are kept, at least one."""
        if self._version == 2:
            return max(int(np.count_nonzero(-np.log2(np.maximum(p, 1e-300)) <= self._most)), 1)
        head = p[:ESTIMATED]
        ratios = np.log(np.arange(2, len(head) + 1) / np.arange(1, len(head)))
        falls = np.log(head[:-1] / np.maximum(head[1:], 1e-300))
        s = float(ratios @ falls) / max(float(ratios @ ratios), 1e-9)
        excess = s - 1
        share = 1 - float(len(p)) ** -excess
        k = ((excess * 2.0**self._most) / share) ** (1 / s) if excess and share and s else len(p)
        return int(min(max(k, 1), len(p)))
