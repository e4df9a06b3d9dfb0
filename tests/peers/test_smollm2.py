"""SmolLM2-135M against llama.cpp: the same greedy tokens, the same perplexity."""

import math

import numpy as np
import pytest

import puna

pytestmark = pytest.mark.peer

PROMPTS = [
    "Why is the sky blue?",
    "Write a haiku about the sea.",
    "def fibonacci(n):",
    "The capital of France is",
    "Once upon a time, in a small village by the mountains,",
]
CLOSE = 0.05
"""Logits nearer than this are a tie between different roundings."""


@pytest.fixture(scope="module")
def path(smollm2):
    return str(smollm2)


@pytest.fixture(scope="module")
def peer(path):
    import llama_cpp

    return llama_cpp.Llama(path, n_ctx=4608, n_batch=512, logits_all=True, n_threads=2, verbose=False)


@pytest.fixture(scope="module")
def model(path):
    return puna.load(path, backend="cpu", context_length=4608)


def greedy(peer, tokens, count):
    """llama.cpp's greedy continuation, and the logits that each token was taken from."""
    peer.reset()
    peer.eval(tokens)
    ids, rows = [], []
    for _ in range(count):
        rows.append(np.array(peer.scores[peer.n_tokens - 1]))
        ids.append(int(rows[-1].argmax()))
        peer.eval([ids[-1]])
    return ids, rows


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_answers_are_the_same_for_64_tokens(model, peer, prompt):
    tokens = model.tokenizer.encode(prompt)
    assert tokens == peer.tokenize(prompt.encode(), add_bos=False, special=True)
    ours = []
    for chunk in model.generate(tokens, temperature=0, num_predict=64, ignore_eos=True):
        ours += chunk.tokens
    theirs, rows = greedy(peer, tokens, 64)
    assert len(ours) == 64
    place = next((i for i in range(64) if ours[i] != theirs[i]), None)
    if place is not None:  # from a tie on, the two texts are different ones
        assert rows[place][theirs[place]] - rows[place][ours[place]] < CLOSE


def perplexity(logits, tokens):
    """exp of the mean negative log-likelihood of each token after the first."""
    rows, following = logits[:-1].astype(np.float64), np.asarray(tokens[1:])
    top = rows.max(1)
    total = np.log(np.exp(rows - top[:, None]).sum(1)) + top
    return math.exp((total - rows[np.arange(len(following)), following]).mean())


def test_perplexity_is_within_half_a_percent(model, peer, long_text):
    tokens = model.tokenizer.encode(long_text)[:4000]
    assert len(tokens) == 4000
    ours = perplexity(model.logits(tokens), tokens)
    peer.reset()
    peer.eval(tokens)
    theirs = perplexity(np.asarray(peer.scores[: len(tokens)]), tokens)
    assert ours == pytest.approx(theirs, rel=0.005)
