"""Embeddings and judgements by a decoder are sentence-transformers' and transformers' (data/judges.json)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from golden import judges
from golden.judges import DOCUMENTS, INSTRUCTION, QUERY, TEXTS

SAID: dict[str, Any] = json.loads(judges.RECORD.read_text("utf-8"))


def both(folder: Path, write: Callable[[Path], Path]) -> tuple[Path, Path]:
    """A directory, and the file it is converted to."""
    source = write(folder / "hf")
    puna.convert(source, folder / "m.gguf")
    return source, folder / "m.gguf"


def embedded(source: Path, backend: str) -> Any:
    return puna.load(source, backend=backend, kv_type="f32").embed(TEXTS)


def judged(source: Path, backend: str) -> Any:
    return puna.load(source, backend=backend, kv_type="f32").rerank(QUERY, DOCUMENTS, instruction=INSTRUCTION)


@pytest.mark.parametrize("backend", BACKENDS)
def test_embeddings_are_those_of_sentence_transformers(backend: str, tmp_path: Path) -> None:
    for source in both(tmp_path, judges.write_embedder):
        assert np.abs(embedded(source, backend) - np.array(SAID["embeddings"])).max() < 2e-6
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        assert file.metadata["qwen3.pooling_type"] == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_decoder_judges_as_transformers_does(backend: str, tmp_path: Path) -> None:
    for source in both(tmp_path, judges.write_judge):
        assert np.abs(judged(source, backend) - np.array(SAID["scores"])).max() < 2e-6


def test_another_pooling_or_instruction_is_far_from_the_record(tmp_path: Path) -> None:
    folder = judges.write_embedder(tmp_path / "e")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}), "utf-8")
    assert np.abs(embedded(folder, "numpy") - np.array(SAID["embeddings"])).max() > 1e-2
    model = puna.load(judges.write_judge(tmp_path / "j"), backend="numpy", kv_type="f32")
    assert np.abs(model.rerank(QUERY, DOCUMENTS, instruction="other") - np.array(SAID["scores"])).max() > 1e-3


def test_documents_are_judged_beside_each_other_and_what_their_prompts_begin_with_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = puna.load(judges.write_judge(tmp_path / "j"), backend="numpy", kv_type="f32")
    documents = [f"{document} {i}" for i in range(5) for document in DOCUMENTS]
    alone = [float(model.rerank(QUERY, [each], instruction=INSTRUCTION)[0]) for each in documents]
    model = puna.load(tmp_path / "j", backend="numpy", kv_type="f32")
    runner, read = model._runtime.engine.runner, list[int]()
    step = runner.step
    monkeypatch.setattr(runner, "step", lambda parts, outputs: [read.append(len(parts)), step(parts, outputs)][1])
    assert model.rerank(QUERY, documents, instruction=INSTRUCTION) == pytest.approx(alone, abs=1e-5)
    assert len(read) < len(documents) / 2
    assert max(read) > 2


def test_a_document_that_fills_the_context_is_judged(tmp_path: Path) -> None:
    model = puna.load(judges.write_judge(tmp_path / "j"), backend="numpy", kv_type="f32")
    (long,) = model.encoding.pairs(QUERY, ["word " * 4 * model.context_length], INSTRUCTION, truncate=True).tokens
    assert len(long) == model.context_length
    logits = model.logits(long)[-1]
    no, yes = (model.tokenizer.encode(each, special=False)[0] for each in ("no", "yes"))
    (score,) = model.rerank(QUERY, ["word " * 4 * model.context_length], instruction=INSTRUCTION, truncate=True)
    assert score == pytest.approx(1 / (1 + np.exp(float(logits[no]) - float(logits[yes]))), abs=1e-6)


@pytest.mark.reference
@pytest.mark.parametrize("backend", BACKENDS)
def test_both_say_today_what_is_on_record(backend: str, tmp_path: Path) -> None:
    folder = judges.write_embedder(tmp_path / "e")
    live = np.array(judges.embeddings(folder))
    assert np.abs(live - np.array(SAID["embeddings"])).max() < 2e-6
    assert np.abs(embedded(folder, backend) - live).max() < 2e-6
    folder = judges.write_judge(tmp_path / "j")
    live = np.array(judges.scores(folder))
    assert np.abs(live - np.array(SAID["scores"])).max() < 2e-6
    assert np.abs(judged(folder, backend) - live).max() < 2e-6
