"""The record live: transformers (or `naive`) computes it again, and Puna what it does, at every position."""

from pathlib import Path

import numpy as np
import pytest

from arch.run import BACKENDS, run
from golden import make
from golden.cases import CASES, tokens
from golden.checkpoints import DATA, recorded, write_checkpoint
from puna.opened import open_model

pytestmark = pytest.mark.reference

BY_LENGTH = ("phi3_long",)
"""Where transformers turns the tokens of short texts otherwise; Puna goes by the size of the context."""


@pytest.mark.parametrize("case", CASES)
def test_transformers_computes_what_is_on_record(case: str) -> None:
    model = make.model_of(case)
    want = np.load(DATA / f"{case}.npy")
    got = make.outputs(model, tokens(CASES[case]["vocab_size"]))
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()
    assert make.description(model, case)["tensors"] == recorded(case)["tensors"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_puna_computes_what_transformers_does(case: str, backend: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, case)
    texts = [tokens(CASES[case]["vocab_size"]), [6], [300, 0, 17, 17, 17, 2, 1, 9]]
    for ids in texts[: 1 if case in BY_LENGTH else None]:
        want = make.outputs(make.model_of(case), ids, range(len(ids)))
        got = run(open_model(tmp_path), backend, [(ids, list(range(len(ids))))])
        assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()
