"""Scores of pairs against sentence-transformers' CrossEncoder (data/rerank.json), and a decoder's yes or no."""

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


def test_a_decoder_is_scored_by_its_yes_and_no(tmp_path: Path) -> None:
    words = ["no", "yes", "<|im_start|>", "<|im_end|>"]
    folder = write_checkpoint(tmp_path, "qwen3")
    spec = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary = spec["model"]["vocab"]
    for text, place in zip(words, (300, 301, 302, 303), strict=True):  # in the place of pairs of letters
        old = next(token for token, i in vocabulary.items() if i == place)
        spec["model"]["merges"] = [pair for pair in spec["model"]["merges"] if pair.replace(" ", "") != old]
        del vocabulary[old]
        vocabulary[text] = place
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        spec["added_tokens"].append({"id": place, "content": text, **plain, "special": text.startswith("<|")})
    (folder / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    model = puna.load(folder, backend="numpy", kv_type="f32")
    before = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    )
    before += 'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    text = "<Instruct>: find\n<Query>: q\n<Document>: d"
    after = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    logits = model.logits(model.tokenizer.encode(before + text + after, add_bos=False, add_eos=False))[-1]
    no, yes = np.exp(logits[[300, 301]].astype(np.float64))
    assert np.allclose(model.rerank("q", ["d"], instruction="find"), yes / (no + yes), atol=1e-6)


def test_an_embedding_model_s_names_need_no_prefix_and_its_pooling_is_kept(tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "plain", "qwen3")
    folder = write_checkpoint(tmp_path / "bare", "qwen3", rename=lambda name: name.removeprefix("model."))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.Pooling", "path": "1_Pooling"}]))
    puna.convert(folder, tmp_path / "m.gguf")
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        assert file.metadata["qwen3.pooling_type"] == 3
    want = puna.load(plain, backend="numpy").embed(["a b", "cd"])
    assert np.array_equal(puna.load(tmp_path / "m.gguf", backend="numpy").embed(["a b", "cd"]), want)
