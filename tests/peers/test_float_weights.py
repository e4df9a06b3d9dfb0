"""16-bit float weights against llama.cpp: how far the distributions are from those of float32 arithmetic."""

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


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_the_distributions_are_closer_to_float32_than_llama_cpps(smollm2, long_text, tmp_path, name):
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
    assert ours < theirs
