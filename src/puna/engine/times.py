"""How long steps take by how many tokens they compute, as measured, and how many more are worth their time.

What it says changes when tokens come, never which.
"""

from __future__ import annotations

from collections.abc import Sequence

SLOPE = 0.08
"""What each further token adds to a step of one, before anything is measured."""
AGE = 256
"""Steps after which half of a measurement is forgotten."""
MARGIN = 1.05
"""How many times more tokens in a time are worth a change."""


class Times:
    """Measurements of one engine's steps, and a line through them for steps that were not measured lately."""

    def __init__(self) -> None:
        self._seconds: dict[int, tuple[float, int]] = {}  # by tokens: how long, and at which step
        self._steps = 0
        self._last = 1, 1.0
        self._slope = SLOPE

    @property
    def measured(self) -> bool:
        """Whether any step was."""
        return self._steps > 0

    def note(self, tokens: int, seconds: float) -> None:
        """A step of so many tokens took so long. Shorter times count for more: others are of what else went on."""
        seconds = max(seconds, 1e-9)  # a clock may be too coarse
        known = self.seconds(tokens) if tokens in self._seconds else seconds
        smooth = known + (seconds - known) * (0.4 if seconds < known else 0.1)
        self._steps += 1
        self._slope += (SLOPE - self._slope) / (8 * AGE)  # what was slow once is tried again
        if tokens != self._last[0] and self._seconds:
            self._slope += (_slope(self._last, (tokens, smooth)) - self._slope) * 0.3
        self._seconds[tokens] = smooth, self._steps
        self._last = tokens, smooth

    def seconds(self, tokens: int) -> float:
        """How long a step of so many tokens takes."""
        measured, seconds = self._last
        guess = seconds * (1 + self._slope * (tokens - 1)) / (1 + self._slope * (measured - 1))
        known, step = self._seconds.get(tokens, (guess, 0))
        return guess + (known - guess) * float(0.5 ** ((self._steps - step) / AGE))

    def worth(self, tokens: int, sure: int, chances: Sequence[float]) -> int:
        """How many more than `tokens`, which bring `sure` ones, bring most in a time.

        `chances` are of each of the others to be right, the best first.
        """
        best, count, brought = sure / self.seconds(tokens) * MARGIN, 0, float(sure)
        for more, chance in enumerate(chances, 1):
            brought += chance
            rate = brought / self.seconds(tokens + more)
            if rate > best:
                best, count = rate, more
        return count


def _slope(one: tuple[int, float], other: tuple[int, float]) -> float:
    """What each token adds to a step of one, by two measurements (tokens, seconds); from nothing to all of it."""
    (n, s), (m, t) = sorted((one, other))
    first = s * (m - 1) - t * (n - 1)  # as long as a step of one takes, times m - n
    return min(max((t - s) / first, 0.0), 1.0) if first > 0 else 1.0
