"""Decisions between texts: how probable a model finds each as what comes next. It knows no template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from puna.errors import PromptTooLong, RequestError

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
    """Which of `choices` comes after the tokens of a prompt, by the probabilities of all tokens of each.

    A choice that others begin with counts where none of them goes on: of 1 and 10, 1 is what is not followed by 0.
    """
    if len(choices) < 2:
        raise RequestError(f"decide: {len(choices)} choices; at least two are needed")
    tokens = [tuple(tokenizer.encode(choice, special=False)) for choice in choices]
    if not all(tokens) or len(set(tokens)) < len(tokens):
        raise RequestError("decide: every choice needs tokens of its own; texts that differ would work")
    following = _following(tokens)
    longest = len(prompt) + max(map(len, following))
    if not prompt:
        raise RequestError("decide: the prompt is empty; at least one token is needed")
    if longest >= engine.context_length:
        raise PromptTooLong(longest, engine.context_length)
    rows = engine.following([*prompt, *path] for path in following)
    logs = np.array(_logprobs(dict(zip(following, map(_log_softmax, rows), strict=True)), following, tokens))
    best = logs.max()
    relative = np.exp(logs - best)
    shares = relative / relative.sum()
    probabilities = {choice: float(p) for choice, p in zip(choices, shares, strict=True)}
    return Decision(choices[int(logs.argmax())], probabilities, float(np.exp(best) * relative.sum()))


Path = tuple[int, ...]


def _following(choices: Sequence[Path]) -> dict[Path, set[int]]:
    """After each beginning of a choice, the tokens with which choices go on."""
    following: dict[Path, set[int]] = {}
    for ids in choices:
        for end in range(len(ids)):
            following.setdefault(ids[:end], set()).add(ids[end])
    return following


def _logprobs(
    rows: Mapping[Path, NDArray[np.float64]], following: Mapping[Path, set[int]], choices: Sequence[Path]
) -> list[float]:
    """Of each choice; `rows` are those of what comes after the prompt and each beginning of one."""
    return [
        sum(float(rows[ids[:end]][ids[end]]) for end in range(len(ids))) + _ends(rows, following, ids)
        for ids in choices
    ]


def _ends(rows: Mapping[Path, NDArray[np.float64]], following: Mapping[Path, set[int]], ids: Path) -> float:
    """The logarithm of the probability that no other choice goes on after one that is complete."""
    if ids not in following:
        return 0.0
    going_on = float(np.exp(rows[ids][list(following[ids])]).sum())
    return float(np.log1p(-min(going_on, 1 - 1e-12)))


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
