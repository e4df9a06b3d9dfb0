"""What tells positions apart: rotation, growth of queries, bias by distance."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log, log2, pi

from puna.dtypes import F32, I32
from puna.errors import ModelError
from puna.graph import Tensor, constant
from puna.graph.ops import apply
from puna.nn.declared import Weight


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: base `theta` over the first `dim` elements of a head, and how they are stretched.

    `scaling`: none, linear or yarn. `factor`: by how much the context was stretched; yarn also has the context the
    model was made for, and its two bounds in turns over that context, which `truncate` rounds to whole pairs.
    `attention_factor` 0: yarn's own default, else 1.
    """

    theta: float
    dim: int
    scaling: str = "none"
    factor: float = 1.0
    original_context: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 0.0
    truncate: bool = True

    @property
    def scale(self) -> float:
        """What cosines and sines are multiplied by."""
        if self.scaling != "yarn":
            return self.attention_factor or 1.0
        return self.attention_factor or (0.1 * log(self.factor) + 1.0 if self.factor > 1 else 1.0)

    def frequencies(self) -> list[float]:
        """Radians a position, one for each pair of elements."""
        plain = [self.theta ** (-2 * i / self.dim) for i in range(self.dim // 2)]
        if self.scaling == "none":
            return plain
        if self.scaling == "linear":
            return [f / self.factor for f in plain]
        if self.scaling == "yarn":
            return [f * kept + f / self.factor * (1 - kept) for f, kept in zip(plain, self._kept(), strict=True)]
        raise ModelError(f"rope scaling '{self.scaling}' is unknown; known: none, linear, yarn")

    def _kept(self) -> list[float]:
        """Yarn's ramp: 1 where a frequency is kept, 0 where it is stretched (https://arxiv.org/abs/2309.00071)."""

        def pair_of(turns: float) -> float:
            return self.dim * log(self.original_context / (turns * 2 * pi)) / (2 * log(self.theta))

        low, high = pair_of(self.beta_fast), pair_of(self.beta_slow)
        if self.truncate:
            low, high = floor(low), ceil(high)
        low, high = max(low, 0), min(high, self.dim - 1)
        return [1 - min(max((i - low) / max(high - low, 0.001), 0), 1) for i in range(self.dim // 2)]


def frequencies(rope: Rope, factors: Weight | None = None) -> Tensor:
    """The rotary frequencies (dim / 2,), divided by a stored tensor of factors where the model has one."""
    plain = constant(rope.frequencies())
    return plain if factors is None else plain / factors.weight


def rope(x: Tensor, positions: Tensor, frequencies: Tensor, *, style: str, scale: float = 1.0) -> Tensor:
    """Turn (T, H, D) by position; `style` is "pairs" (2i with 2i + 1) or "halves" (i with i + dim / 2)."""
    return apply("rope", x, positions, frequencies, style=style, scale=float(scale))


def growth(positions: Tensor, every: float, by: float, start: float = 0.0) -> Tensor:
    """What queries are multiplied by: 1 + by * log(1 + floor((position + start) / every)), (T,) to (T, 1, 1)."""
    turns = ((positions.cast(F32) + start) / float(every)).cast(I32).cast(F32)
    return (apply("log", turns + 1.0) * by + 1.0).reshape(*positions.shape, 1, 1)


def alibi(heads: int, reach: int, most: float = 8.0, *, both: bool = False) -> Tensor:
    """ALiBi's bias by distance (heads, 2 * reach + 1): each head's slope times j - i (https://arxiv.org/abs/2108.12409).

    `both`: times -|j - i|, for attention both ways. Slopes fall from 2 ** -(most / heads) to 2 ** -most; where heads
    are no power of two, as if there were fewer, and between those for the rest.
    """
    whole = 2 ** floor(log2(heads))
    slopes = [2.0 ** (-most * (i + 1) / whole) for i in range(whole)]
    slopes += [2.0 ** (-most * (2 * i + 1) / (2 * whole)) for i in range(heads - whole)]
    distances = [-abs(d) if both else d for d in range(-reach, reach + 1)]
    return constant([[slope * distance for distance in distances] for slope in slopes])
