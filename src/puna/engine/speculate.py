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

    from puna.engine.draft import Draft
    from puna.engine.memory import Memory
    from puna.engine.sequence import Sequence

MOST = 7
"""Tokens that a sequence is ahead at most, unless it is asked for others."""
PREDICTED_MOST = 31
"""The same for one that is said to be like a text."""
AHEAD = 63
"""Tokens that may be asked for."""

SURE = 0.8
"""The chance of what was said before from which on no draft is asked."""

Step = list[tuple["Sequence", int]]
Ahead = dict["Sequence", list[int]]


class Speculation:
    """Looks ahead for the sequences of one engine, whose step has `rows` of results and room for `tokens`.

    What they said before is asked first, and a `draft` where that says little.
    """

    def __init__(self, memory: Memory, tokens: int, rows: int, context_length: int, draft: Draft | None = None) -> None:
        self.times = Times()
        self._draft = draft
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
        seen = self._seen(step)
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

    def _seen(self, step: Step) -> list[tuple[Sequence, list[int], list[float]]]:
        """What sequences may say, and how likely: no more than has room before a last token."""
        rooms = {s: min(s.left, self._context_length - len(s.tokens)) - 1 for s, _ in step}
        found = {s: s.foresight.look(s.tokens, s.dropped) for s in rooms if s.foresight}
        if self._draft:
            poor = {s: min(s.foresight.most, rooms[s]) for s, (_, each) in found.items() if s.foresight}
            poor = {s: most for s, most in poor.items() if most > 0 and not any(c >= SURE for c in found[s][1][:1])}
            drafted = self._draft.look(poor, lambda count: self._price(len(step), count)) if poor else {}
            found |= {s: each for s, each in drafted.items() if sum(each[1]) > sum(found[s][1])}
        return [(s, guess[: rooms[s]], chances[: rooms[s]]) for s, (guess, chances) in found.items()]

    def _price(self, sequences: int, count: int) -> float:
        """The chance that a token needs to be worth a draft's step for `count`, where a step has `sequences`."""
        one = self.times.seconds(sequences)
        drafting = self._draft.times.seconds(count) if self._draft and self._draft.times.measured else one / 4
        more = max(self.times.seconds(sequences + 4) - one, 0.0) / 4
        return (drafting / max(count, 1) + more) * sequences / one

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
