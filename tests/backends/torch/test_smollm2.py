"""A real model on torch says what it says on numpy."""

import pytest

from peers import downloads
from peers.greedy import PROMPTS, says_what_numpy_says

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_of_numpy(prompt):
    assert says_what_numpy_says(str(downloads.smollm2()), "torch", prompt)
