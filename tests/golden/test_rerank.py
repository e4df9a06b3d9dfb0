"""Scores of pairs against sentence-transformers' CrossEncoder (data/rerank.json)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from golden.checkpoints import write_checkpoint
from golden.rerankers import CASES, DOCUMENTS, QUERY, RECORD, write
from puna.errors import RequestError

SCORES: dict[str, Any] = json.loads(RECORD.read_text("utf-8"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_a_cross_encoder(case: str, backend: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "hf", case, SCORES[case]["tensors"])
    puna.convert(folder, tmp_path / "m.gguf")
    for source in (folder, tmp_path / "m.gguf"):
        got = puna.load(source, backend=backend).rerank(QUERY, DOCUMENTS)
        assert np.abs(got - np.array(SCORES[case]["scores"])).max() < 1e-5
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        assert file.metadata[f"{file.metadata['general.architecture']}.pooling_type"] == 4


def test_a_score_does_not_depend_on_the_other_documents(tmp_path: Path) -> None:
    model = puna.load(write(tmp_path, "bert", SCORES["bert"]["tensors"]), backend="numpy")
    assert model.rerank(QUERY, []).shape == (0,)
    assert np.allclose(model.rerank(QUERY, DOCUMENTS[1:2]), SCORES["bert"]["scores"][1:2], atol=1e-5)


def test_a_pair_that_does_not_fit_is_an_error_or_is_cut(tmp_path: Path) -> None:
    model = puna.load(write(tmp_path, "bert", SCORES["bert"]["tensors"]), backend="numpy")
    long = "w5 " * 200
    with pytest.raises(RequestError, match="128"):
        model.rerank(QUERY, [long])
    assert np.allclose(model.rerank(QUERY, [long], truncate=True), model.rerank(QUERY, ["w5 " * 121]))


def test_what_a_model_is_for_is_said(tmp_path: Path) -> None:
    scores = puna.load(write(tmp_path / "a", "bert", SCORES["bert"]["tensors"]), backend="numpy")
    with pytest.raises(RequestError, match="rerank"):
        scores.embed("a")
    with pytest.raises(RequestError, match="no classifier"):
        puna.load(write_checkpoint(tmp_path / "b", "bert"), backend="numpy").rerank("a", ["b"])
    with pytest.raises(RequestError, match="yes or no"):
        puna.load(write_checkpoint(tmp_path / "c", "qwen3"), backend="numpy").rerank("a", ["b"])
