"""A real model on ggml says what it says on numpy."""

import pytest

import puna
from peers import downloads
from peers.greedy import PROMPTS, rounds_no_more_than_cpu, says_what_numpy_says

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    """The model in float32: with packed weights, ggml rounds activations to 8 bits."""
    path = tmp_path_factory.mktemp("smollm2") / "floats.gguf"
    puna.convert(downloads.smollm2(), path, quantize="F32")
    return path


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_of_numpy(prompt, floats):
    assert says_what_numpy_says(floats, "ggml:cpu", prompt)


def test_packed_weights_cost_no_more_than_on_the_cpu_backend():
    assert rounds_no_more_than_cpu(str(downloads.smollm2()), "ggml:cpu")
