"""SmolLM2-135M against llama.cpp, and against itself computed in other steps."""

import math

import numpy as np
import pytest

import puna

pytestmark = [pytest.mark.peer, pytest.mark.llama_cpp]

PROMPTS = [
    "Why is the sky blue?",
    "Write a haiku about the sea.",
    "def fibonacci(n):",
    "The capital of France is",
    "Once upon a time, in a small village by the mountains,",
]


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
    """llama.cpp's greedy continuation, the logits that each token was taken from, and those of the whole at once."""
    peer.reset()
    peer.eval(tokens)
    ids, rows = [], []
    for _ in range(count):
        rows.append(np.array(peer.scores[peer.n_tokens - 1]))
        ids.append(int(rows[-1].argmax()))
        peer.eval([ids[-1]])
    peer.reset()
    peer.eval([*tokens, *ids])
    return ids, np.array(rows), np.array(peer.scores[len(tokens) - 1 : len(tokens) - 1 + count])


def own_difference(rows, whole):
    """How far llama.cpp moves the gap between two leading tokens when it computes the same text in another way.

    Activations rounded to 8 bits make it chaotic: the last bit of a sum decides how a later one is rounded.
    """
    leading = np.argsort(rows, axis=1)[:, -2:]
    gaps = [np.diff(np.take_along_axis(r, leading, 1), axis=1) for r in (rows, whole)]
    return float(np.abs(gaps[0] - gaps[1]).max())


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_answers_are_the_same_for_64_tokens_but_for_what_llama_cpp_leaves_open(model, peer, prompt):
    tokens = model.tokenizer.encode(prompt)
    assert tokens == peer.tokenize(prompt.encode(), add_bos=False, special=True)
    ours = []
    for chunk in model.generate(tokens, temperature=0, num_predict=64, ignore_eos=True):
        ours += chunk.tokens
    theirs, rows, whole = greedy(peer, tokens, 64)
    assert len(ours) == 64
    place = next((i for i in range(64) if ours[i] != theirs[i]), None)
    if place is not None:  # from here on the two texts are different ones
        assert rows[place][theirs[place]] - rows[place][ours[place]] <= own_difference(rows, whole)


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


@pytest.mark.parametrize("kv_type", ["f16", "f32", "q8_0"])
def test_an_answer_is_the_same_alone_in_a_crowd_and_with_any_number_of_threads(path, long_text, kv_type):
    texts = [long_text[300 * i : 300 * i + 1500 + 400 * i] for i in range(4)]
    options = {"temperature": 0, "num_predict": 24, "ignore_eos": True}

    def answer(chunks):
        return [token for chunk in chunks for token in chunk.tokens]

    answers = []
    for threads in (1, 2, 3):
        one = puna.load(path, backend="cpu", context_length=1024, kv_type=kv_type, threads=threads)
        answers.append([answer(one.generate(text, **options)) for text in texts])
        crowd = [iter(one.generate(text, **options)) for text in reversed(texts)]
        found = [[] for _ in crowd]
        for _ in range(24):  # each in turn: they advance together
            for tokens, chunks in zip(found, crowd, strict=True):
                tokens += next(chunks).tokens
        answers.append(found[::-1])
    assert all(a == answers[0] for a in answers)


@pytest.mark.parametrize("kv_type", ["f16", "f32", "q8_0"])
def test_logits_do_not_depend_on_what_follows_nor_on_steps(path, long_text, kv_type):
    one = puna.load(path, backend="cpu", context_length=1024, kv_type=kv_type)
    tokens = one.tokenizer.encode(long_text)[:700]
    whole = one.logits(tokens)
    for n in (
        1,
        2,
        63,
        64,
        65,
        129,
        200,
        257,
        321,
        513,
        577,
        700,
    ):  # steps of 64: after them 1, 2, 8, 60 or 63 are left
        np.testing.assert_array_equal(one.logits(tokens[:n]), whole[:n])
