"""Decisions between texts: how probable a model finds each as what comes next. It knows no template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.engine.engine import Engine
    from puna.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Decision:
    """`probabilities` of the choices add up to 1; `mass` is what all of them together had among all texts.

    Where `mass` is small the model would rather have said something else, and what it chose means little.
    """

    choice: str
    probabilities: dict[str, float]
    mass: float

    @property
    def mean(self) -> float:
        """Of choices that are numbers, the value to be expected; ValueError where they are none."""
        return sum(float(choice) * p for choice, p in self.probabilities.items())


def decide(engine: Engine, tokenizer: Tokenizer, prompt: list[int], choices: Sequence[str]) -> Decision:
    """Which of `choices` comes after the tokens of a prompt, by the probabilities of all tokens of each."""
    if len(choices) < 2:
        raise RequestError(f"decide: {len(choices)} choices; at least two are needed")
    tokens = [tokenizer.encode(choice, special=False) for choice in choices]
    if not all(tokens) or len({tuple(ids) for ids in tokens}) < len(tokens):
        raise RequestError("decide: every choice needs tokens of its own; texts that differ would work")
    logs = np.array(_logprobs(engine, prompt, tokens))
    best = logs.max()
    relative = np.exp(logs - best)
    shares = relative / relative.sum()
    probabilities = {choice: float(p) for choice, p in zip(choices, shares, strict=True)}
    return Decision(choices[int(logs.argmax())], probabilities, float(np.exp(best) * relative.sum()))


def _logprobs(engine: Engine, prompt: list[int], choices: Sequence[list[int]]) -> list[float]:
    """Of each choice after the prompt; where all are one token, the prompt is read only once."""
    if all(len(ids) == 1 for ids in choices):
        row = _log_softmax(engine.forward(prompt, last=True))[0]
        return [float(row[ids[0]]) for ids in choices]
    return [_sum_of(engine.forward([*prompt, *ids]), len(prompt), ids) for ids in choices]


def _sum_of(logits: NDArray[np.float32], start: int, ids: Sequence[int]) -> float:
    rows = _log_softmax(logits[start - 1 : start - 1 + len(ids)])
    return float(sum(rows[i, token] for i, token in enumerate(ids)))


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
