"""Vocabularies in the files from before tokenizer.json: ids equal those of `tokenizers`."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors

from puna.errors import ConversionError, FormatError
from puna.tokenizer import load_tokenizer, metadata_from_hf, tokenizer_from_hf
from tokenizer.corpus import NASTY
from tokenizer.vocabularies import QWEN2, byte_level, word_pieces

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def gpt2():
    """A tokenizer of GPT-2's kind, with its end of text inside the vocabulary."""
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def saved(directory, tokenizer, tokens=(), **settings):
    """vocab.json and merges.txt, with `tokens` behind the trained ones, as GPT-2 has its end of text."""
    tokenizer.model.save(str(directory))
    vocab = json.loads((directory / "vocab.json").read_bytes())
    vocab |= {token: len(vocab) + i for i, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(vocab))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def test_a_vocabulary_with_merges_has_the_ids_of_tokenizers(tmp_path):
    theirs = gpt2()
    end = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    found = tokenizer_from_hf(saved(tmp_path, theirs, ["<|endoftext|>"], **end), {"model_type": "gpt2"})
    ours = load_tokenizer(found.metadata)
    assert found.warnings == ()
    assert found.metadata["tokenizer.ggml.pre"] == "gpt-2"
    assert ours.bos_id == ours.eos_id == 696
    assert ours.encode("a<|endoftext|>")[-1] == 696
    assert (tmp_path / "merges.txt").read_text().startswith("#version")
    for text in (text for text in NASTY if "<|" not in text and "<tool_call>" not in text):
        assert ours.encode(text) == theirs.encode(text).ids, repr(text)


def test_the_end_of_text_is_special_even_where_no_config_names_it(tmp_path):
    ours = load_tokenizer(metadata_from_hf(saved(tmp_path, gpt2(), ["<|endoftext|>"]), {}))
    assert ours.encode("<|endoftext|>") == [696]


def test_texts_of_roberta_have_ends_and_its_mask_swallows_spaces(tmp_path):
    theirs = gpt2()
    vocab = json.loads(theirs.to_str())["model"]["vocab"]
    found = tokenizer_from_hf(saved(tmp_path, theirs, SPECIAL), {"model_type": "roberta"})
    ours = load_tokenizer(found.metadata)
    spec = json.loads(theirs.to_str())
    spec["added_tokens"] = []
    spec["model"]["vocab"] = vocab | {token: len(vocab) + i for i, token in enumerate(SPECIAL)}
    theirs = Tokenizer.from_str(json.dumps(spec))
    theirs.add_special_tokens([*SPECIAL[:4], AddedToken("<mask>", lstrip=True, normalized=False)])
    size = len(vocab)
    theirs.post_processor = processors.RobertaProcessing(("</s>", size + 2), ("<s>", size), add_prefix_space=False)
    for text in ("", "Hello", "a  <mask> b<mask>", "\n<mask>"):
        assert ours.encode(text) == theirs.encode(text).ids, repr(text)


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_list_of_words_has_the_ids_of_tokenizers(lowercase, tmp_path):
    theirs = word_pieces(lowercase)
    theirs.model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    theirs = Tokenizer.from_str(theirs.to_str())
    theirs.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    found = tokenizer_from_hf(tmp_path, {"model_type": "bert", "type_vocab_size": 2})
    ours = load_tokenizer(found.metadata)
    assert found.warnings == ()
    assert found.metadata["tokenizer.ggml.mask_token_id"] == 4
    for text in NASTY:
        assert ours.encode(text, parse_special=True, add_bos=True, add_eos=True) == theirs.encode(text).ids, repr(text)


def test_qwen_s_class_splits_otherwise(tmp_path):
    theirs = byte_level(QWEN2, "NFC")
    found = tokenizer_from_hf(saved(tmp_path, theirs, tokenizer_class="Qwen2Tokenizer"), {})
    ours = load_tokenizer(found.metadata)
    assert found.metadata["tokenizer.ggml.pre"] == "qwen2"
    assert found.warnings == ()
    for text in (text for text in NASTY if "<|" not in text and "<tool_call>" not in text):
        assert ours.encode(text) == theirs.encode(text).ids, repr(text)


def test_chinese_characters_that_are_not_set_apart_are_kept_whole(tmp_path):
    theirs = word_pieces()
    theirs.model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenize_chinese_chars": False}))
    (warning,) = tokenizer_from_hf(tmp_path, {}).warnings
    assert "vocab.txt: its WordPiece has handle_chinese_chars False; GGUF can only say True" in warning


def test_older_files_that_are_damaged_are_refused_by_name(tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(FormatError, match=r"vocab\.txt: there is no \[UNK\]"):
        metadata_from_hf(tmp_path, {})
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(FormatError, match=r"merges\.txt: 'a b c' is no merge"):
        metadata_from_hf(tmp_path, {})
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    with pytest.raises(ConversionError, match="marks the ends of words"):
        metadata_from_hf(tmp_path, {})
