"""Every test here is marked `ggml`."""

from importlib.util import find_spec
from pathlib import Path

import pytest

# Without it nothing here can be imported, and `-m ggml` says that nothing was found to run.
collect_ignore_glob = [] if find_spec("libggml") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ggml)
