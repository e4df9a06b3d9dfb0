import tracemalloc
from collections.abc import Iterator

import pytest


@pytest.fixture
def small_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test if at any moment more was allocated than `LIMIT`, which the test's file sets."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < request.module.LIMIT
