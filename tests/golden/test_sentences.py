"""Vectors are sentence-transformers' for every kind of pooling, matrices, prompts and length (data/sentences.npz)."""

import json
from pathlib import Path

import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from golden import sentences
from golden.sentences import KINDS, MOST, RECORD, TEXTS, Array, asked, write
from puna.errors import ConversionError, PromptTooLong, RequestError

SAID: dict[str, Array] = dict(np.load(RECORD))
NEAR = 1e-5
"""How far any element may be off, as a part of its vector's length."""


def both(folder: Path, name: str) -> tuple[Path, Path]:
    """A directory, and the file it is converted to."""
    source = write(folder / "hf", name)
    puna.convert(source, folder / "m.gguf")
    return source, folder / "m.gguf"


def error(got: Array, want: Array) -> float:
    assert got.shape == want.shape
    return float((np.abs(got - want).max(axis=1) / np.linalg.norm(want, axis=1)).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", KINDS)
def test_vectors_are_those_of_sentence_transformers(name: str, backend: str, tmp_path: Path) -> None:
    for path in both(tmp_path, name):
        model = puna.load(path, backend=backend)
        for prompt in asked(name):
            got = model.embed(TEXTS, truncate=True, prompt_name=prompt)
            assert error(got, SAID[f"{name}/{prompt or ''}"]) < NEAR


@pytest.mark.parametrize("name", KINDS)
def test_a_text_alone_and_among_others_has_bitwise_the_same_vector(name: str, tmp_path: Path) -> None:
    model = puna.load(write(tmp_path, name), backend="cpu")
    many = model.embed(TEXTS * 5, truncate=True)
    alone = np.concatenate([model.embed(text, truncate=True) for text in TEXTS])
    assert np.array_equal(many, np.tile(alone, (5, 1)))


def test_the_file_says_what_the_directory_does(tmp_path: Path) -> None:
    names = ("default", "weighted", "root")
    said = {name: dict(puna.open_gguf(both(tmp_path / name, name)[1]).metadata) for name in names}
    found = {name: {k: v for k, v in each.items() if k.startswith("puna.embedding.")} for name, each in said.items()}
    prompts = {
        "puna.embedding.prompt_names": ["query", "document"],
        "puna.embedding.prompt_texts": ["query: ", "passage: "],
        "puna.embedding.max_length": MOST,
        "puna.embedding.normalize": False,
        "puna.embedding.similarity": "cosine",
    }
    assert found["default"] == {**prompts, "puna.embedding.default_prompt": "document"}
    pooling = {"puna.embedding.pooling": ["weightedmean"], "puna.embedding.include_prompt": False}
    assert found["weighted"] == {**prompts, **pooling}
    assert found["root"]["puna.embedding.lowercase"] is True
    assert (said["default"]["bert.pooling_type"], said["weighted"]["bert.pooling_type"]) == (1, 0)


def test_a_prompt_may_be_text_and_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    model = puna.load(write(tmp_path, "e5"), backend="numpy")
    assert model.prompts == {"query": "query: ", "document": "passage: "}
    assert np.array_equal(model.embed("a", prompt="query: "), model.embed("a", prompt_name="query"))
    assert not np.allclose(model.embed("a"), model.embed("a", prompt_name="query"))
    for arguments, message in (
        ({"prompt_name": "q"}, "no prompt 'q'; it has query, document"),
        ({"prompt_name": "query", "prompt": "x"}, "either works"),
    ):
        with pytest.raises(RequestError, match=message):
            model.embed("a", **arguments)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="token ids"):
        model.embed([[2, 3]], prompt_name="query")


def test_kinds_of_text_of_other_apis_have_the_model_s_prompts(tmp_path: Path) -> None:
    nomic, plain = (puna.load(write(tmp_path / name, name), backend="numpy") for name in ("nomic", "dot"))
    kinds = ("search_query", "query", "search_document", "passage", "classification")
    want = ["search_query", "search_query", "search_document", "search_document", None]
    assert [nomic.encoding.said.prompt_for(kind) for kind in kinds] == want
    assert plain.encoding.said.prompt_for("query") is None
    with pytest.raises(RequestError, match="'image' is unknown"):
        nomic.encoding.said.prompt_for("image")


def test_what_is_longer_than_the_model_s_own_limit_is_refused_or_cut(tmp_path: Path) -> None:
    model = puna.load(write(tmp_path, "e5"), backend="numpy")
    with pytest.raises(PromptTooLong, match="holds 32, the model's maximum"):
        model.embed("x " * 31)
    cut = model.embed("x " * 40, truncate=True)
    assert np.array_equal(cut, model.embed("x " * 30))
    ids = model.tokenizer.encode("x " * 40)
    assert np.array_equal(cut, model.embed([ids], truncate=True))
    assert np.array_equal(model.embed([ids[:-1]], truncate=True), model.embed([ids[:MOST]]))


def test_fewer_dimensions_are_the_first_ones_made_long_again(tmp_path: Path) -> None:
    model = puna.load(write(tmp_path, "e5"), backend="numpy")
    whole = model.embed("a text").astype(np.float64)
    assert np.allclose(model.embed("a text", dimensions=16), whole[:, :16] / np.linalg.norm(whole[:, :16]), atol=1e-6)
    with pytest.raises(RequestError, match="dimensions is 129; this model gives 1 to 128"):
        model.embed("a text", dimensions=129)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("modules.json", [{"type": "a.b.WordWeights", "path": "x"}], "has a 'WordWeights'; known"),
        ("modules.json", [{"type": "Normalize", "path": "x"}, {"type": "Pooling", "path": "y"}], "after Normalize"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pooling is median; one of these"),
        ("1_Pooling/config.json", {}, r"pooling is \[\]"),
        ("config_sentence_transformers.json", {"prompts": {"a": 1}}, "texts by name"),
        ("config_sentence_transformers.json", {"default_prompt_name": "a"}, "its prompts are none"),
    ],
)
def test_what_is_not_understood_is_an_error(name: str, value: object, message: str, tmp_path: Path) -> None:
    write(tmp_path / "hf", "bge")
    (tmp_path / "hf" / name).write_text(json.dumps(value))
    with pytest.raises(ConversionError, match=message):
        puna.convert(tmp_path / "hf", tmp_path / "m.gguf")


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_sentence_transformers_says_today_what_is_on_record(name: str, tmp_path: Path) -> None:
    for key, live in sentences.embeddings(write(tmp_path, name), name).items():
        assert error(live, SAID[key]) < 2e-6
