"""A real model on torch says what it says on numpy."""

import numpy as np
import pytest

from peers import downloads
from puna import load

pytestmark = pytest.mark.peer
TIE = 0.02
"""Logits as near as this are tied: keys and values in float16 move them by so much."""


@pytest.mark.parametrize("prompt", ["Why is the sky blue?", "def fibonacci(n):", "The capital of France is"])
def test_greedy_tokens_are_those_of_numpy(prompt):
    path = str(downloads.smollm2())
    truth, model = (load(path, backend=name, context_length=256) for name in ("numpy", "torch"))
    ids = model.tokenizer.encode(prompt)
    said = [i for chunk in model.generate(ids, temperature=0, num_predict=32, ignore_eos=True) for i in chunk.tokens]
    rows = truth.logits([*ids, *said])[len(ids) - 1 : -1]
    assert len(said) == 32
    assert np.all(rows.max(1) - rows[np.arange(32), said] < TIE)
