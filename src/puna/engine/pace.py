"""How much of prompts a step may read beside answers that go on: so much that these do not stand still for long.

It is learned from how long steps take. What a token comes to does not depend on it.
"""

from __future__ import annotations

STEP_SECONDS = 0.1
"""How long an answer waits for its next token, where that is in the scheduler's hands."""
LEAST = 32
"""Tokens that a step has room for in any case: with fewer, weights would be read more than multiplied with."""
LATELY = 0.2
"""How much one step counts among all before it."""


class Pace:
    """Learns the seconds that a token takes among others."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def room(self, answers: int, most: int) -> int:
        """Tokens for a step with so many answers under way: `most` without any, or until a step was seen."""
        if not answers or not self._seconds:
            return most
        return min(max(int(STEP_SECONDS / self._seconds), answers + LEAST), most)

    def learn(self, tokens: int, seconds: float) -> None:
        """Note how long a step took. Few tokens take longer each, and say nothing of many."""
        if tokens >= LEAST:
            each = seconds / tokens
            self._seconds += LATELY * (each - self._seconds) if self._seconds else each
