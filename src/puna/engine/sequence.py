"""One sequence in the engine: its tokens, how far they are computed, where its cache is, and why it ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from puna.engine.foresight import Foresight
from puna.engine.held import Held
from puna.engine.sampler import Choice, Sampler


class StopReason(Enum):
    """Why a sequence ended."""

    STOP = "stop"  # an end-of-generation token, or the caller's stop string
    LENGTH = "length"  # as many tokens as were asked for, or the context is full
    CANCELLED = "cancelled"
    FAILED = "failed"  # no token could be chosen; `failure` says why


@dataclass(slots=True, eq=False)
class Sequence:
    """What tokens `tokens[:computed]` came to is in `held`; `choices` waits for the caller.

    It `awaits` that another one has computed so many tokens, with which both begin, and which that one `marks`.
    `limit` bounds the generated tokens; `stop_ids` end it and are not part of the text. When the context is full its
    first `keep` tokens stay, and some that follow are `dropped`; None: it ends. `heard` takes logits, if it is a list.
    """

    tokens: list[int]
    sampler: Sampler
    limit: int
    stop_ids: frozenset[int]
    clock: Callable[[], float]
    keep: int | None = None
    prompt_length: int = field(init=False)
    dropped: int = 0
    computed: int = 0
    cached: int = 0
    held: Held = field(default_factory=Held)
    foresight: Foresight | None = None
    awaits: tuple[Sequence, int] | None = None
    marks: list[int] = field(default_factory=list)
    heard: list[NDArray[np.float32]] | None = None
    choices: deque[Choice] = field(default_factory=deque)
    reason: StopReason | None = None
    failure: Exception | None = None
    submitted: float = field(init=False)
    first_token: float = 0.0
    last_token: float = 0.0

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)
        self.submitted = self.clock()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.reason is not None

    @property
    def asked(self) -> int:
        """Tokens of the prompt, which is what an encoder reads where there is one."""
        return len(self.held.text) or self.prompt_length

    @property
    def generated(self) -> int:
        """Tokens chosen so far."""
        return len(self.tokens) + self.dropped - self.prompt_length

    @property
    def told(self) -> int:
        """Of those, the ones that the caller took, and behind the last of them an end token."""
        ended = self.reason is StopReason.STOP and self.tokens[-1] in self.stop_ids
        return self.generated - len(self.choices) - (ended and bool(self.choices))

    @property
    def left(self) -> int:
        """Tokens that may still be chosen."""
        return self.limit - self.generated

    @property
    def pending(self) -> int:
        """Tokens that are not computed yet: the prompt's rest, or the one just chosen."""
        return len(self.tokens) - self.computed

    def choose(self, logits: NDArray[np.float32]) -> None:
        """Take the token that its sampler chooses; what goes wrong there ends this sequence and no other."""
        if self.heard is not None:
            self.heard.append(logits.copy())
        try:
            self.accept(self.sampler.choose(logits, self.tokens))
        except Exception as error:
            self.failure, self.reason = error, StopReason.FAILED

    def accept(self, choice: Choice) -> None:
        """Take a sampled token, and those that a constraint wants after it; an end token or the limit ends it."""
        self._take(choice)
        constraint = self.sampler.constraint
        if constraint is None or self.ended:
            return
        for token in constraint.take(choice.token):
            if not self.ended:
                self._take(Choice(token, None if choice.logprob is None else 0.0))
        if constraint.complete and not self.ended:
            self.reason = StopReason.STOP

    def shift(self, context_length: int) -> None:
        """Drop half of what follows the first tokens, which stay, so that a token more has room in a context."""
        keep = min(self.keep or 0, context_length - 2)
        while len(self.tokens) >= context_length:
            count = max((len(self.tokens) - keep) // 2, 1)
            del self.tokens[keep : keep + count]
            self.dropped += count

    def _take(self, choice: Choice) -> None:
        self.last_token = self.clock()
        self.first_token = self.first_token or self.last_token
        self.tokens.append(choice.token)
        if choice.token in self.stop_ids:
            self.reason = StopReason.STOP
            return
        self.choices.append(choice)
        if self.generated >= self.limit:
            self.reason = StopReason.LENGTH
