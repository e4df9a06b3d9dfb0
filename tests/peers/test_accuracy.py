"""Accuracy against llama.cpp: how far distributions are from those of float32 arithmetic with the same weights."""

import numpy as np
import pytest

import puna

pytestmark = [pytest.mark.peer, pytest.mark.llama_cpp]


def log_probabilities(logits):
    rows = logits.astype(np.float64)
    return rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)


def divergence(reference, logits):
    """Mean Kullback-Leibler divergence of the distributions, in nats."""
    a, b = log_probabilities(reference), log_probabilities(logits)
    return float((np.exp(a) * (a - b)).sum(1).mean())


TYPES = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_1", "Q4_0", "Q3_K_M", "IQ4_XS", "IQ4_NL", "MXFP4")


@pytest.mark.parametrize("name", TYPES)
def test_the_distributions_are_no_further_from_float32_than_llama_cpps(smollm2, long_text, tmp_path, name):
    import llama_cpp

    path = str(tmp_path / f"{name}.gguf")
    puna.convert(smollm2, path, quantize=name)
    peer = llama_cpp.Llama(path, n_ctx=512, n_batch=512, logits_all=True, n_threads=2, verbose=False)
    model = puna.load(path, backend="cpu", context_length=512)
    tokens = model.tokenizer.encode(long_text)[:300]
    reference = puna.load(path, backend="numpy", context_length=512, kv_type="f32").logits(tokens)
    peer.eval(tokens)
    theirs = divergence(reference, np.array(peer.scores[: len(tokens)]))
    ours = divergence(reference, model.logits(tokens))
    assert ours < 1.1 * theirs
