"""How far each stored type may drift before it counts: a table, measured on random and real weights.

| column | what it bounds, and what it was measured on |
|---|---|
| noise | relative squared error of a tensor: the worst of normal, uniform, heavy-tailed and MiniLM's weights |
| kl | mean Kullback-Leibler divergence of next-token distributions: 5 times what tiny random models showed |
| top1 | part of the tokens whose best next token stays: below those of tiny random models, whose choices are close |

A tensor may err by 3 times its type's noise, a block by 20 times that of its loosest type relative to what it adds
(up to 10 was seen), and by what activations in 8 bits add where a backend computes with such; neither by 0.95 or more.
Types of less than 2 bits, which only models trained for them bear, bound no block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from puna.errors import RequestError

NEVER = math.inf


class Row(NamedTuple):
    """What one type does to a model at worst."""

    noise: float
    kl: float
    top1: float


TABLE: dict[str, Row] = {
    "F32": Row(1e-12, 1e-5, 0.99),
    "F16": Row(4e-7, 1e-4, 0.97),  # 5e-8, but for values too small for it
    "BF16": Row(5e-6, 2e-3, 0.93),
    "Q8_0": Row(6e-5, 0.03, 0.85),
    "Q6_K": Row(6e-4, 0.1, 0.7),
    "Q5_1": Row(2.5e-3, 0.3, 0.5),
    "Q5_K": Row(2.5e-3, 0.3, 0.5),
    "Q5_0": Row(3.5e-3, 0.4, 0.5),
    "Q4_K": Row(9e-3, 1.0, 0.3),
    "Q4_1": Row(9e-3, 1.0, 0.3),
    "IQ4_NL": Row(9e-3, 1.0, 0.3),
    "IQ4_XS": Row(9e-3, 1.0, 0.3),
    "Q4_0": Row(1.4e-2, 1.0, 0.3),
    "NVFP4": Row(1.4e-2, 1.5, 0.1),
    "MXFP4": Row(2.1e-2, 2.0, 0.1),
    "Q3_K": Row(3.5e-2, 2.5, 0.1),
    "IQ3_S": Row(4e-2, 2.5, 0.1),
    "IQ3_XXS": Row(7e-2, 3.0, 0.05),
    "Q2_K": Row(0.12, 5.0, 0.0),
    "IQ2_S": Row(0.12, 5.0, 0.0),
    "IQ2_XS": Row(0.12, 5.0, 0.0),
    "IQ2_XXS": Row(0.17, 5.0, 0.0),
    "IQ1_S": Row(0.34, NEVER, 0.0),
    "IQ1_M": Row(0.36, NEVER, 0.0),
    "Q1_0": Row(0.5, NEVER, 0.0),
    "TQ1_0": Row(0.71, NEVER, 0.0),
    "TQ2_0": Row(0.71, NEVER, 0.0),
}
"""By the name of the type, tightest first."""

MOST = 0.95
"""An error that says that two arrays have little in common."""
ACTIVATIONS = 3e-3
"""What activations in 8 bits add to a block's error: up to 9e-4 was seen, on SmolLM2."""
ACTIVATIONS_KL = 0.02
ARITHMETIC = 1e-9
"""What another order of float32 sums does to a block; up to 1e-11 was seen."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that replace the table's where they are given; RequestError for what bounds nothing."""

    tensor: float | None = None
    block: float | None = None
    kl: float | None = None
    top1: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = 1 if name == "top1" else math.inf
            if value is not None and not 0 <= value <= most:
                works = "0 to 1" if name == "top1" else "0 or more"
                raise RequestError(f"verify: the limit {name} is {value}; {works} works")

    def of_tensor(self, type_: str) -> float:
        """The squared error that a tensor may have, relative to its source."""
        return min(3 * row(type_).noise, MOST) if self.tensor is None else self.tensor

    def of_block(self, types: Iterable[str], *, rounded: bool) -> float:
        """The same of what a block adds; `rounded`: the backend may round activations to 8 bits."""
        if self.block is not None:
            return self.block
        noise = max((row(name).noise for name in types), default=0.0)
        if 3 * noise > MOST:
            return NEVER
        return min(max(20 * noise, ARITHMETIC) + (ACTIVATIONS if rounded else 0.0), MOST)

    def of_output(self, types: Iterable[str], *, rounded: bool) -> dict[str, float]:
        """The mean divergence that logits may have at most, and the part of best tokens that must stay at least."""
        rows = [row(name) for name in types] or [TABLE["F32"]]
        if rounded:
            rows.append(TABLE["Q8_0"])
        kl = max(r.kl for r in rows) + (ACTIVATIONS_KL if rounded else 0.0)
        top1 = min(r.top1 for r in rows)
        return {"kl": kl if self.kl is None else self.kl, "top1": top1 if self.top1 is None else self.top1}


def row(type_: str) -> Row:
    """A type's bounds; those of one that is not in the table (integers, wider floats) are F32's."""
    return TABLE.get(type_, TABLE["F32"])


def rounds_activations(type_: str) -> bool:
    """Whether a backend may compute with this type's weights on activations in 8 bits."""
    return type_ not in ("F32", "F16", "BF16") and type_ in TABLE
