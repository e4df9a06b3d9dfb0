"""A real model's greedy answer on a backend, beside what numpy would say."""

import numpy as np

from puna import load

PROMPTS = ["Why is the sky blue?", "def fibonacci(n):", "The capital of France is"]
TIE = 0.02
"""Logits as near as this are tied: keys and values in float16 move them by so much."""
COUNT = 32


def answered(path, backend, prompt):
    """A model, the tokens of a prompt and of its answer, and numpy's logits of the answer."""
    truth, model = (load(path, backend=name, context_length=256) for name in ("numpy", backend))
    ids = model.tokenizer.encode(prompt)
    chunks = model.generate(ids, temperature=0, num_predict=COUNT, ignore_eos=True)
    said = [i for chunk in chunks for i in chunk.tokens]
    assert len(said) == COUNT
    return model, ids, said, truth.logits([*ids, *said])[len(ids) - 1 : -1]


def says_what_numpy_says(path, backend, prompt):
    """Whether every token of the answer is numpy's, ties aside."""
    _, _, said, rows = answered(path, backend, prompt)
    return bool(np.all(rows.max(1) - rows[np.arange(COUNT), said] < TIE))


def rounds_no_more_than_cpu(path, backend):
    """Whether rounded activations move logits at most half as far again as on the cpu backend."""
    model, ids, said, rows = answered(path, backend, PROMPTS[0])
    cpu = load(path, backend="cpu", context_length=256)
    ours, theirs = (each.logits([*ids, *said])[len(ids) - 1 : -1] for each in (model, cpu))
    return bool(np.square(ours - rows).mean() < 1.5 * np.square(theirs - rows).mean())
