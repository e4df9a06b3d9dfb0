"""A real model on onnxruntime says what it says on numpy."""

import numpy as np
import pytest

from peers import downloads
from puna import load

pytestmark = pytest.mark.peer
PROMPTS = ["Why is the sky blue?", "def fibonacci(n):", "The capital of France is"]
TIE = 0.02
"""Logits as near as this are tied: keys and values in float16 move them by so much."""


def answered(backend, prompt):
    """A model, the tokens of a prompt and of its greedy answer, and numpy's logits of the answer."""
    path = str(downloads.smollm2())
    truth, model = (load(path, backend=name, context_length=256) for name in ("numpy", backend))
    ids = model.tokenizer.encode(prompt)
    said = [i for chunk in model.generate(ids, temperature=0, num_predict=32, ignore_eos=True) for i in chunk.tokens]
    assert len(said) == 32
    return model, ids, said, truth.logits([*ids, *said])[len(ids) - 1 : -1]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_of_numpy(prompt, monkeypatch):
    monkeypatch.setenv("PUNA_ONNX_FLOATS", "1")
    _, _, said, rows = answered("onnx", prompt)
    assert np.all(rows.max(1) - rows[np.arange(32), said] < TIE)


def test_rounded_activations_cost_no_more_than_on_the_cpu_backend():
    model, ids, said, rows = answered("onnx", PROMPTS[0])
    cpu = load(str(downloads.smollm2()), backend="cpu", context_length=256)
    ours, theirs = (each.logits([*ids, *said])[len(ids) - 1 : -1] for each in (model, cpu))
    assert np.square(ours - rows).mean() < 1.5 * np.square(theirs - rows).mean()
