"""Thinking that may take so many tokens: then what ends it is said, and the answer goes on. It knows no format."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puna.engine.sampler import Rules


@dataclass(frozen=True, slots=True)
class Thoughts:
    """How thinking is written: the bytes of its tags, those that each token adds, and the tokens that end it."""

    opening: bytes
    closing: bytes
    spelling: Callable[[int], bytes]
    ends: Sequence[int]


class Budget:
    """Holds one answer to `most` tokens of thinking, which has `begun` or not, and to further `rules`."""

    def __init__(self, most: int, thoughts: Thoughts, *, begun: bool, rules: Rules | None = None) -> None:
        self._left = most
        self._thoughts = thoughts
        self._thinking = begun
        self._rules = rules
        self._said = b""
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def complete(self) -> bool:
        """Whether nothing can come any more but the end."""
        return self._rules is not None and self._rules.complete

    def masked(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (vocab,) with those of the further rules."""
        return self._rules.masked(logits) if self._rules else logits

    def take(self, token: int) -> list[int]:
        """Go on with a token; what must come after it: the end of thinking, where it has taken as much as it may."""
        forced = self._rules.take(token) if self._rules else []
        for each in (token, *forced):
            self._note(each)
        if self._thinking and self._left <= 0 and not self._characters.getstate()[0]:  # not in the midst of one
            self._thinking = False
            forced = [*forced, *self._ended()]
        return forced

    def _ended(self) -> list[int]:
        """The tokens that end thinking, and what the rules want behind them."""
        said, more = [], list[int]()
        for token in self._thoughts.ends:
            if more:  # the rules have said it already
                break
            said.append(token)
            more = self._rules.take(token) if self._rules else []
        return [*said, *more]

    def _note(self, token: int) -> None:
        """Whether it thinks, behind a token."""
        thoughts = self._thoughts
        self._left -= self._thinking
        spelled = thoughts.spelling(token)
        self._characters.decode(spelled)
        self._said += spelled
        tag = thoughts.closing if self._thinking else thoughts.opening
        if tag in self._said:
            self._thinking, self._said = not self._thinking, self._said.rpartition(tag)[2]
        self._said = self._said[-max(len(thoughts.opening), len(thoughts.closing)) :]
