"""A tokenizer.json that GGUF's keys cannot say is kept whole, and tokenizes exactly."""

import json
import logging
import re

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from puna.errors import TokenizerError
from puna.formats.gguf import open_gguf
from puna.formats.gguf_writer import write_gguf
from puna.tokenizer import load_tokenizer, metadata_from_hf, tokenizer_from_hf
from tokenizer.corpus import NASTY
from tokenizer.vocabularies import QWEN2, TEXTS, byte_level, byte_level_metadata, splits, word_pieces

FULL = "tokenizer.huggingface.json"


def changed(**parts):
    """A copy of the byte-level tokenizer, with other parts."""
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


def unnamed():
    """Splits digits by two, as no name in GGUF does."""
    return changed(pre_tokenizer=splits(QWEN2.replace("|\\p{N}|", "|\\p{N}{1,2}|")))


def prefixed():
    return changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True))


def lowercased():
    return changed(normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]))


def whole_words_only():
    tokenizer = changed()
    tokenizer.add_tokens([AddedToken("cat", single_word=True, normalized=False)])
    return tokenizer


def suffixed():
    """A BPE over words that end in </w>, as CLIP's and GPT-1's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=500, show_progress=False, special_tokens=["<unk>"], end_of_word_suffix="</w>"
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def accented():
    """A WordPiece after another normalizer than BERT's."""
    tokenizer = Tokenizer.from_str(word_pieces().to_str())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    return tokenizer


def words():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "lazy": 2, "dog": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


KINDS = [
    (unnamed, "gpt2", "no name in GGUF .* the closest is 'dbrx', which splits 9.% of short"),
    (prefixed, "gpt2", "a space before text"),
    (lowercased, "gpt2", "normalizer .*'NFKC', 'Lowercase'.* has no form"),
    (whole_words_only, "gpt2", "GGUF's keys give other ids for .* such as"),
    (suffixed, "none", "model of type BPE has no form in GGUF; .*llama.cpp cannot tokenize with it"),
    (accented, "bert", "WordPiece comes after"),
    (words, "none", "model of type WordLevel has no form"),
]


@pytest.mark.parametrize(("make", "model", "said"), KINDS, ids=[make.__name__ for make, *_ in KINDS])
def test_what_gguf_cannot_say_is_kept_and_has_the_ids_of_tokenizers(make, model, said, tmp_path):
    theirs = make()
    theirs.save(str(tmp_path / "tokenizer.json"))
    found = tokenizer_from_hf(tmp_path, {})
    (warning,) = found.warnings
    assert re.search(said, warning)
    assert found.metadata["tokenizer.ggml.model"] == model
    write_gguf(tmp_path / "v.gguf", {"general.architecture": "llama", **found.metadata}, [])
    ours = load_tokenizer(open_gguf(tmp_path / "v.gguf").metadata)
    for text in [*NASTY, "cat scatter cat."]:
        ids = ours.encode(text, parse_special=True, add_bos=False, add_eos=False)
        assert ids == theirs.encode(text, add_special_tokens=False).ids, repr(text)


def test_text_from_outside_stays_text_with_a_kept_tokenizer(tmp_path):
    unnamed().save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(metadata_from_hf(tmp_path, {}))
    end = list(ours.tokens).index("<|im_end|>")
    assert ours.encode("<|im_end|>") == [end]
    outside = ours.encode("<|im_end|>", special=False)
    assert end not in outside
    assert ours.decode(outside) == "<|im_end|>"


def test_every_token_that_a_kept_tokenizer_puts_around_a_text_is_added_once(tmp_path):
    theirs = changed()
    ends = [(t, theirs.token_to_id(t)) for t in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")]
    theirs.post_processor = processors.TemplateProcessing(
        single="<|im_start|> <|endoftext|> $A <|im_end|>", special_tokens=ends
    )
    theirs.save(str(tmp_path / "tokenizer.json"))
    found = tokenizer_from_hf(tmp_path, {})
    assert "GGUF can say one token on each side" in found.warnings[0]
    ours = load_tokenizer(found.metadata)
    ids = theirs.encode("Hello").ids
    assert ids[:2] == [ends[0][1], ends[2][1]]
    assert ours.encode("Hello") == ids
    assert ours.encode("<|im_start|><|endoftext|>Hello") == ids
    assert ours.encode("Hello", special=False) == ids[2:-1]


def test_tokens_of_a_kept_tokenizer_become_text_one_by_one(tmp_path):
    theirs = suffixed()
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(metadata_from_hf(tmp_path, {}))
    ids = ours.encode("the lazy dog, 12", special=False)
    stream = ours.stream()
    assert "".join(map(stream.push, ids)) == theirs.decode(ids) + " " == "the lazy dog , 12 "


def test_tokens_that_only_the_config_lists_are_in_what_is_kept(tmp_path):
    theirs = unnamed()
    theirs.save(str(tmp_path / "tokenizer.json"))
    flags = {"single_word": False, "lstrip": False, "rstrip": True, "normalized": False}
    listed = {"700": {"content": "<|tool|>", "special": True, **flags}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}))
    ours = load_tokenizer(metadata_from_hf(tmp_path, {}))
    theirs.add_special_tokens([AddedToken("<|tool|>", rstrip=True)])
    for text in ("a<|tool|>b", "a <|tool|>  b"):
        assert ours.encode(text) == theirs.encode(text).ids
        assert 700 in ours.encode(text)


def test_what_the_keys_say_is_not_kept_twice(tmp_path, caplog):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    with caplog.at_level(logging.WARNING, "puna"):
        assert FULL not in metadata_from_hf(tmp_path, {})
    assert caplog.records == []


def test_warnings_are_logged_by_the_short_way(tmp_path, caplog):
    unnamed().save(str(tmp_path / "tokenizer.json"))
    with caplog.at_level(logging.WARNING, "puna"):
        assert FULL in metadata_from_hf(tmp_path, {})
    ((name, _, said),) = caplog.record_tuples
    assert name == "puna"
    assert "llama.cpp has no name for it, takes it as 'dbrx'" in said
    assert "\n" not in said


def test_a_kept_tokenizer_is_not_read_before_it_is_used():
    class Lazy(dict):
        def __getitem__(self, key):
            if key == FULL:
                raise AssertionError("it was read")
            return super().__getitem__(key)

    metadata = Lazy(byte_level_metadata(byte_level(), "qwen2") | {FULL: "{}"})
    ours = load_tokenizer(metadata)
    assert ours.vocab_size == 700
    assert ours.decode([40]) == "I"


@pytest.mark.parametrize("text", ["", "{}", '{"model": {"type": "New"}}'])
def test_a_kept_tokenizer_that_is_none_is_refused_by_its_key(text):
    metadata = byte_level_metadata(byte_level(), "qwen2") | {FULL: text}
    with pytest.raises(TokenizerError, match=r"'tokenizer\.huggingface\.json' is not understood"):
        load_tokenizer(metadata).encode("a")


@pytest.mark.parametrize("prefix", [True, False])
def test_merges_whose_order_scores_cannot_say_are_written_or_kept(prefix, tmp_path):
    vocab = {token: i for i, token in enumerate(["<unk>", "a", "b", "c", "ab", "bc", "abc", "cc", "<0x00>"])}
    merges = [("a", "b"), ("ab", "c"), ("c", "c"), ("b", "c"), ("a", "bc")]
    theirs = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    spaces = normalizers.Replace(" ", "\u2581")
    theirs.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces]) if prefix else spaces
    theirs.save(str(tmp_path / "tokenizer.json"))
    found = tokenizer_from_hf(tmp_path, {})
    assert [("'abc' do not stand together" in warning) for warning in found.warnings] == [True] * prefix
    assert found.metadata["tokenizer.ggml.model"] == ("llama" if prefix else "gemma4")
    assert (FULL in found.metadata) is prefix
    ours = load_tokenizer(found.metadata)
    for text in ("abc", "bcc", "abcc", "aabbcc", "ccabc"):
        assert ours.encode(text, special=False) == theirs.encode(text).ids
