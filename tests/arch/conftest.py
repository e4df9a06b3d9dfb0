"""Tiny models of every architecture, written once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from golden.checkpoints import write_checkpoint
from puna.opened import Opened, open_model


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Opened]:
    """An opened checkpoint by the name of its case."""
    root: Path = tmp_path_factory.mktemp("arch")
    return cache(lambda case: open_model(write_checkpoint(root / case, case)))
