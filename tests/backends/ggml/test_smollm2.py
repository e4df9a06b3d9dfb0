"""A real model on ggml says what it says on numpy."""

import numpy as np
import pytest

import puna
from peers import downloads

pytestmark = pytest.mark.peer
PROMPTS = ["Why is the sky blue?", "def fibonacci(n):", "The capital of France is"]
TIE = 0.02
"""Logits as near as this are tied: keys and values in float16 move them by so much."""


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    """The model in float32: with packed weights, ggml rounds activations to 8 bits."""
    path = tmp_path_factory.mktemp("smollm2") / "floats.gguf"
    puna.convert(downloads.smollm2(), path, quantize="F32")
    return path


def answered(path, prompt):
    """A model, the tokens of a prompt and of its greedy answer, and numpy's logits of the answer."""
    truth, model = (puna.load(path, backend=name, context_length=256) for name in ("numpy", "ggml:cpu"))
    ids = model.tokenizer.encode(prompt)
    said = [i for chunk in model.generate(ids, temperature=0, num_predict=32, ignore_eos=True) for i in chunk.tokens]
    assert len(said) == 32
    return model, ids, said, truth.logits([*ids, *said])[len(ids) - 1 : -1]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_of_numpy(prompt, floats):
    _, _, said, rows = answered(floats, prompt)
    assert np.all(rows.max(1) - rows[np.arange(32), said] < TIE)


def test_packed_weights_cost_no_more_than_on_the_cpu_backend():
    model, ids, said, rows = answered(downloads.smollm2(), PROMPTS[0])
    cpu = puna.load(downloads.smollm2(), backend="cpu", context_length=256)
    ours, theirs = (each.logits([*ids, *said])[len(ids) - 1 : -1] for each in (model, cpu))
    assert np.square(ours - rows).mean() < 1.5 * np.square(theirs - rows).mean()
