"""A real model on onnxruntime says what it says on numpy."""

import pytest

from peers import downloads
from peers.greedy import PROMPTS, rounds_no_more_than_cpu, says_what_numpy_says

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_of_numpy(prompt, monkeypatch):
    monkeypatch.setenv("PUNA_ONNX_FLOATS", "1")
    assert says_what_numpy_says(str(downloads.smollm2()), "onnx", prompt)


def test_rounded_activations_cost_no_more_than_on_the_cpu_backend():
    assert rounds_no_more_than_cpu(str(downloads.smollm2()), "onnx")
