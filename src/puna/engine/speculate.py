"""Which tokens to compute in advance, that sequences may say next, beside those that a step computes anyway.

Every token is chosen as ever, from what the model says of it and by the sequence's own sampler: what was computed in
advance is of use where it is the same. So nothing here shows in a text, only in when it comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from puna.engine.times import Times
from puna.engine.tree import alike

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from puna.engine.memory import Memory
    from puna.engine.sequence import Sequence

MOST = 7
"""Tokens that a sequence is ahead at most, unless it is asked for others."""
AHEAD = 63
"""Tokens that may be asked for."""

Step = list[tuple["Sequence", int]]
Ahead = dict["Sequence", list[int]]


class Speculation:
    """Looks ahead for the sequences of one engine, whose step has `rows` of results and room for `tokens`."""

    def __init__(self, memory: Memory, tokens: int, rows: int, context_length: int) -> None:
        self.times = Times()
        self._memory = memory
        self._tokens = tokens
        self._rows = rows
        self._context_length = context_length

    def ahead(self, step: Step) -> Ahead:
        """What to compute in advance in a step for whom, with blocks for it.

        Where prompts are read, nothing: they take the room.
        """
        if not _plain(step):
            return {}
        seen = [(s, *self._guess(s)) for s, _ in step if s.foresight]
        room = min(self._tokens, self._rows) - len(step)
        chances = sorted((chance for *_, each in seen for chance in each), reverse=True)[:room]
        count = self.times.worth(len(step), len(step), chances)
        found: Ahead = {}
        for sequence, guess, each in seen if count else ():
            worth = sum(chance >= chances[count - 1] for chance in each)
            length = min(worth, count - sum(map(len, found.values())))
            if length and self._memory.extend(sequence.held, len(sequence.tokens) + length):
                found[sequence] = guess[:length]
        return found

    def _guess(self, sequence: Sequence) -> tuple[list[int], list[float]]:
        """What may come, and how likely: no more than before the last token that has room."""
        most = min(sequence.left, self._context_length - len(sequence.tokens)) - 1
        guess, chances = sequence.foresight.look(sequence.tokens, sequence.dropped) if sequence.foresight else ([], [])
        return guess[:most], chances[:most]

    def note(self, step: Step, ahead: Ahead, seconds: float) -> None:
        """Learn from how long a step took, if it is one of those that may look ahead."""
        if _plain(step):
            self.times.note(len(step) + sum(map(len, ahead.values())), seconds)


def _plain(step: Step) -> bool:
    """Whether all goes on behind one token each."""
    return all(sequence.pending == 1 and sequence.generated for sequence, _ in step)


def accept(sequence: Sequence, rows: list[NDArray[np.float32]], ahead: list[int]) -> int:
    """Choose from each of `rows` as long as the tokens before it were right; how many of `ahead` were.

    `rows` (vocab,) are the results behind the sequence's last token and behind each of `ahead`.
    """
    right = 0
    while sequence.reason is None:  # not cancelled meanwhile either
        before = len(sequence.tokens)
        sequence.choose(rows[right])
        said = sequence.tokens[before:]
        same = alike(said, ahead[right : right + len(said)])
        right += same
        if same < len(said):
            break
    if ahead and sequence.foresight:
        sequence.foresight.proposed += len(ahead)
        sequence.foresight.accepted += right
    return right
