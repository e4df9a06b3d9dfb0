"""Decisions against what is computed plainly of all logits: Puna's own, and live those of transformers."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from golden import make
from golden.checkpoints import write_checkpoint
from puna.errors import RequestError

Array = np.ndarray[Any, Any]
PROMPT = "is it the one? "
CHOICES = [
    ["yes", "no"],
    ["1", "10", "100", "2", "12"],
    ["a longer answer", "a longer one", "a", "b"],
]


def plainly(logits: Callable[[list[int]], Array], prompt: list[int], choices: list[list[int]]) -> tuple[Array, float]:
    """Shares of the choices, and their sum before: each has the product of its tokens' probabilities, less what goes
    on to another choice."""

    def chance(ids: list[int]) -> float:
        rows = logits([*prompt, *ids]).astype(np.float64)[len(prompt) - 1 : -1]
        rows = np.exp(rows - rows.max(1, keepdims=True))
        rows /= rows.sum(1, keepdims=True)
        return float(np.prod([row[i] for row, i in zip(rows, ids, strict=True)]))

    def alone(ids: list[int]) -> float:
        longer = {tuple(other[: len(ids) + 1]) for other in choices if other[: len(ids)] == ids and other != ids}
        return chance(ids) - sum(chance(list(path)) for path in longer)

    found = np.array([alone(ids) for ids in choices])
    return found / found.sum(), float(found.sum())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("choices", CHOICES, ids=lambda choices: choices[0])
def test_probabilities_are_those_of_whole_choices_and_no_two_overlap(
    choices: list[str], backend: str, tmp_path: Path
) -> None:
    model = puna.load(write_checkpoint(tmp_path, "llama3"), backend=backend, kv_type="f32")
    made = model.decide(PROMPT, choices)
    ids = [model.tokenizer.encode(choice, special=False) for choice in choices]
    want, mass = plainly(model.logits, model.tokenizer.encode(PROMPT), ids)
    assert np.allclose(list(made.probabilities.values()), want, rtol=1e-4)
    assert made.mass == pytest.approx(mass, rel=1e-4)
    assert made.choice == choices[int(want.argmax())]
    assert sum(made.probabilities.values()) == pytest.approx(1)


def test_a_score_is_the_mean_of_its_numbers(tmp_path: Path) -> None:
    model = puna.load(write_checkpoint(tmp_path, "llama3"), backend="numpy")
    made = model.decide(PROMPT, ["1", "2", "10"])
    p = made.probabilities
    assert made.mean == pytest.approx(p["1"] + 2 * p["2"] + 10 * p["10"])


def test_an_inner_path_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = puna.load(write_checkpoint(tmp_path, "llama3"), backend="numpy")
    engine, read = model._runtime.engine, []
    following = engine.following

    def noted(prompts: Iterable[list[int]]) -> list[Array]:
        read.extend(given := list(prompts))
        return following(given)

    monkeypatch.setattr(engine, "following", noted)
    model.decide(PROMPT, [str(number) for number in range(10, 30)])
    before = len(model.tokenizer.encode(PROMPT))
    assert sorted(map(len, read)) == [before, before + 1, before + 1]


def test_choices_must_differ(tmp_path: Path) -> None:
    model = puna.load(write_checkpoint(tmp_path, "llama3"), backend="numpy")
    for choices in (["a"], ["a", "a"], ["a", ""]):
        with pytest.raises(RequestError, match="decide"):
            model.decide(PROMPT, choices)


@pytest.mark.reference
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("choices", CHOICES, ids=lambda choices: choices[0])
def test_probabilities_are_those_of_transformers(choices: list[str], backend: str, tmp_path: Path) -> None:
    model = puna.load(write_checkpoint(tmp_path, "llama3"), backend=backend, kv_type="f32")
    ids = [model.tokenizer.encode(choice, special=False) for choice in choices]
    other = make.model_of("llama3")
    logits = lambda ids: make.outputs(other, ids, range(len(ids)))  # noqa: E731
    want, mass = plainly(logits, model.tokenizer.encode(PROMPT), ids)
    made = model.decide(PROMPT, choices)
    assert np.allclose(list(made.probabilities.values()), want, rtol=1e-3)
    assert made.mass == pytest.approx(mass, rel=1e-3)
