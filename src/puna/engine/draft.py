"""A smaller model that says what sequences of another one may say next; it has its own memory of their texts.

It draws as they are going to, by the same numbers, so that where the two models agree they mostly say the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from puna.cache import BLOCK
from puna.engine import beginning
from puna.engine.foresight import Odds
from puna.engine.memory import Memory
from puna.engine.step import part
from puna.engine.times import Times
from puna.engine.tree import alike
from puna.errors import ModelError

if TYPE_CHECKING:
    from puna.engine.held import Held
    from puna.engine.runner import Runner
    from puna.engine.sequence import Sequence

SURE = (0.3, 0.5, 0.7, 0.85, 0.95)
"""How probable the smaller model finds a token, from where on it is the more likely to be right."""
CHANCES = (0.2, 0.4, 0.55, 0.7, 0.85, 0.95)
"""Of its being right, before any was judged."""
RIGHT = 0.7
"""How many of its tokens are right, before any was judged."""
LEARNED = 0.05
"""How much one judgement changes that."""
REST = 48
"""Steps after which it is asked again where its guesses were not worth their time, the first time."""


PADDING = 128
"""Tokens that one of two vocabularies may have behind the last of the other's."""


def shared(own: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """How many tokens two models have in common, by their metadata; ModelError names what differs."""
    mine, others = (list(each.get("tokenizer.ggml.tokens", ())) for each in (own, other))
    count = min(len(mine), len(others))
    if not count or abs(len(mine) - len(others)) > PADDING:
        raise ModelError(f"its vocabulary has {len(others)} tokens, and the model's {len(mine)}; {SAME}")
    wrong = next((i for i in range(count) if mine[i] != others[i]), None)
    if wrong is not None:
        raise ModelError(f"its token {wrong} is {others[wrong]!r}, and the model's is {mine[wrong]!r}; {SAME}")
    return count


SAME = "a smaller model of the same family has the same"


@dataclass(slots=True)
class _Text:
    """What the smaller model has of a sequence: `known` tokens are computed, of which `sure` ones are the sequence's.

    `chances` are of each token of the `guess` to be reached, and `sayings` how probable it found them.
    """

    held: Held
    known: list[int]
    sure: int
    dropped: int
    at: int = 0  # of all tokens, where the guess begins
    todo: list[int] = field(default_factory=list)
    guess: list[int] = field(default_factory=list)
    sayings: list[float] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    odds: Odds = field(default_factory=lambda: Odds(SURE, CHANCES))
    right: float = RIGHT
    rests: int = REST  # steps that it is not asked, twice as many each time
    rested: int = 0

    def judge(self, sequence: Sequence) -> None:
        """Learn from what came in the place of the guess."""
        for right in self.odds.judge(self.sayings, self.guess, sequence.tokens[self.at - sequence.dropped :]):
            self.right += (right - self.right) * LEARNED
        self.guess, self.sayings, self.chances = [], [], []

    def settle(self, sequence: Sequence) -> None:
        """Go back to where what is known is what was said."""
        self.sure += alike(self.known[self.sure :], sequence.tokens[self.sure : -1])
        del self.known[self.sure :]
        self.todo = sequence.tokens[self.sure :]
        self.at = len(sequence.tokens) + sequence.dropped


class Draft:
    """Guesses of one model on `runner`, for another's sequences; both know the first `vocabulary` tokens."""

    def __init__(self, runner: Runner, vocabulary: int, clock: Callable[[], float] = time.perf_counter) -> None:
        size = runner.limits
        if runner.recurrent:
            raise ModelError("it has a memory that cannot be taken back to where guesses were right; others work")
        self.times = Times()
        self._runner = runner
        self._vocabulary = vocabulary
        self._clock = clock
        self._memory = Memory(size.slots // BLOCK, 0, {reach: n // BLOCK for reach, n in size.windows.items()})
        self._texts: dict[Sequence, _Text] = {}

    def look(
        self, wanted: dict[Sequence, int], price: Callable[[int], float]
    ) -> dict[Sequence, tuple[list[int], list[float]]]:
        """What sequences may say next, no more tokens than are `wanted`, and the chance of each to be reached.

        `price` is the chance from which on a token more is worth while, where it is asked for so many sequences.
        """
        self._forget()
        texts = {s: text for s in wanted if (text := self._begun(s, price(len(wanted))))}
        samplers = {s: s.sampler.foreseen(self._vocabulary) for s in texts}
        going = texts
        while going:
            rows = self._step(going)
            for s, row in rows.items():
                self._say(texts[s], samplers[s].choose(row, [*s.tokens, *texts[s].guess]).token, row)
            least = price(len(rows))
            more = [s for s in rows if len(texts[s].guess) < wanted[s]]
            going = {s: texts[s] for s in more if texts[s].chances[-1] * texts[s].right >= least}
        return {s: (text.guess, text.chances) for s, text in texts.items()}

    def _begun(self, sequence: Sequence, least: float) -> _Text | None:
        """What is known of a sequence, ready to go on; None where that is not worth while."""
        text = self._texts.get(sequence)
        if text and text.dropped != sequence.dropped:
            self._memory.release(self._texts.pop(sequence).held)
            text = None
        if len(sequence.tokens) >= self._runner.limits.table * BLOCK:
            return None
        if text is None:
            held, sure = beginning.begin(self._memory, beginning.find(self._memory, sequence.tokens[:-1]))
            text = self._texts[sequence] = _Text(held, sequence.tokens[:sure], sure, sequence.dropped)
        text.judge(sequence)
        if text.right < least:
            text.rested += 1
            if text.rested < text.rests:
                return None
            text.rested, text.rests = 0, text.rests * 2
        text.settle(sequence)
        self._memory.advance(text.held, text.sure, sequence.tokens)
        return text if max(text.todo) < self._vocabulary else None

    def _step(self, going: dict[Sequence, _Text]) -> dict[Sequence, NDArray[np.float32]]:
        """Compute what is to do, as far as there is room; logits where that was all."""
        size, parts, outputs, through, end = self._runner.limits, [], list[int](), [], 0
        for sequence, text in going.items():
            todo, start = text.todo[: size.tokens - end], len(text.known)
            most = size.table * BLOCK
            if not todo or start + len(todo) > most or not self._memory.extend(text.held, start + len(todo)):
                continue
            parts.append(part(todo, start, text.held))
            end += len(todo)
            text.known += todo
            del text.todo[: len(todo)]
            if not text.todo:
                outputs.append(end - 1)
                through.append(sequence)
        if not parts:
            return {}
        begun = self._clock()
        rows = self._runner.step(parts, outputs)
        if end == len(parts):
            self.times.note(end, self._clock() - begun)
        return {s: row[: self._vocabulary] for s, row in zip(through, rows, strict=True)}

    def _say(self, text: _Text, token: int, row: NDArray[np.float32]) -> None:
        saying = 1 / float(np.exp(row - row[token]).sum())
        chance = text.odds.of(saying) * (text.chances[-1] if text.chances else 1.0)
        text.guess.append(token)
        text.sayings.append(saying)
        text.chances.append(chance)
        text.todo = [token]

    def _forget(self) -> None:
        """Keep what was computed of sequences that have ended, for others that begin like them."""
        for sequence in [s for s in self._texts if s.ended]:
            text = self._texts.pop(sequence)
            if text.dropped == sequence.dropped:
                self._memory.keep(text.known[: text.sure], text.held)
            else:
                self._memory.release(text.held)
