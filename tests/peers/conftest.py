"""Real models and texts for the peer tests."""

import pytest

from peers import downloads


@pytest.fixture(scope="session")
def smollm2():
    """The GGUF file of SmolLM2-135M-Instruct."""
    return downloads.smollm2()


@pytest.fixture(scope="session")
def long_text():
    """English prose that every Python carries: some topics of its reference manual."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in ("assignment", "class", "compound", "exceptions", "function", "import"))
