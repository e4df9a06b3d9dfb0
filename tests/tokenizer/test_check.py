"""Two tokenizers that differ are told apart, with the texts on which they do."""

import json
import sys

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from puna.errors import TokenizerError
from puna.tokenizer import load_tokenizer
from puna.tokenizer.check import PROBES, Difference, differences
from tokenizer.vocabularies import (
    LLAMA3,
    QWEN2,
    byte_level,
    byte_level_metadata,
    sentence_pieces,
    sentence_pieces_metadata,
    splits,
)


def qwen(trained=QWEN2):
    """Splits as Qwen 2, with the vocabulary that comes of splitting as `trained`."""
    return load_tokenizer(byte_level_metadata(byte_level(trained), "deepseek-r1-qwen"))


def test_the_same_tokenizer_has_no_differences(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    assert differences(qwen(), tmp_path) == differences(qwen(), tmp_path / "tokenizer.json") == []


@pytest.mark.parametrize(
    "part",
    [
        {"pre_tokenizer": splits(LLAMA3)},
        {"pre_tokenizer": splits(QWEN2.replace("[\\r\\n]*|", "|"))},
        {"pre_tokenizer": splits(QWEN2.replace("\\s+(?!\\S)|", ""))},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False)},
    ],
)
def test_small_differences_are_seen(part, tmp_path):
    theirs = Tokenizer.from_str(byte_level(LLAMA3).to_str())
    for name, value in part.items():
        setattr(theirs, name, value)
    theirs.save(str(tmp_path / "tokenizer.json"))
    found = differences(qwen(LLAMA3), tmp_path)
    assert found
    for difference in found:
        assert difference.theirs == theirs.encode(difference.text).ids != difference.ours


def test_a_special_token_with_another_id_is_seen(tmp_path):
    spec = json.loads(byte_level().to_str())
    spec["added_tokens"][-1]["content"] = "<tool_use>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    found = differences(qwen(), tmp_path, ["a"])
    assert [difference.text for difference in found] == ["a <tool_call> b<tool_call>c"]


def test_the_texts_can_be_given(tmp_path):
    theirs = byte_level(LLAMA3)
    theirs.save(str(tmp_path / "tokenizer.json"))
    text = "1234567 12345"
    (found,) = differences(qwen(LLAMA3), tmp_path, ["a", text])
    assert found == Difference(text, qwen(LLAMA3).encode(text), theirs.encode(text).ids)


def test_a_sentencepiece_model_is_compared_by_its_own_library(tmp_path):
    model = sentence_pieces()
    (tmp_path / "tokenizer.model").write_bytes(model)
    assert differences(load_tokenizer(sentence_pieces_metadata(model)), tmp_path) == []
    other = load_tokenizer(sentence_pieces_metadata(model, add_space_prefix=False))
    assert "Hello" not in {found.text for found in differences(other, tmp_path, ["", "\n"])}
    assert len(differences(other, tmp_path)) > len(PROBES) / 2


def test_what_cannot_be_compared_is_said(tmp_path, monkeypatch):
    with pytest.raises(TokenizerError, match=r"there is none of tokenizer\.json"):
        differences(qwen(), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not understood by the library 'tokenizers'"):
        differences(qwen(), tmp_path)
    (tmp_path / "x.model").write_bytes(b"x")
    with pytest.raises(TokenizerError, match=r"x\.model"):
        differences(qwen(), tmp_path / "x.model")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(TokenizerError, match="pip install sentencepiece"):
        differences(qwen(), tmp_path / "x.model")
    with pytest.raises(TokenizerError, match=r"comparing with .*absent\.json"):
        differences(qwen(), tmp_path / "absent.json")
