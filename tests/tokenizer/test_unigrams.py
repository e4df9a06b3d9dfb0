"""Unigram vocabularies: ids equal those of `sentencepiece`, or of `tokenizers`, whichever the files are for."""

import base64
from functools import cache

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from puna.errors import TokenizerError
from puna.formats.gguf import open_gguf
from puna.formats.gguf_writer import write_gguf
from puna.tokenizer import load_tokenizer, metadata_from_hf, tokenizer_from_hf
from puna.tokenizer.charsmap import replacer
from puna.tokenizer.sentencepiece_model import parse_sentencepiece
from tokenizer.corpus import NASTY
from tokenizer.vocabularies import sentence_pieces

PLAIN = {
    "model_type": "unigram",
    "vocab_size": 500,
    "hard_vocab_limit": False,
    "byte_fallback": False,
    "user_defined_symbols": "",
}
NFKC = {**PLAIN, "normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True}
MORE = ["¨ x ¨", "ｶﾞ ﾊﾟ ①②", "  ① ", "ﬁﬂ ㎏", "\u2581 a", "a\u2581", "Ａ１！", "e\u0301\u0323"]
EVEN = [text for text in [*NASTY, *MORE] if "aaaa" not in text and "xxxx" not in text]
"""Texts without runs of one letter: many cuts of these are equally good, and the rounding of sums picks one."""


def through_gguf(metadata, tmp_path):
    write_gguf(tmp_path / "vocabulary.gguf", {"general.architecture": "t5", **metadata}, [])
    return load_tokenizer(open_gguf(tmp_path / "vocabulary.gguf").metadata)


@pytest.mark.parametrize(
    "trained",
    [
        PLAIN,
        {**PLAIN, "byte_fallback": True, "vocab_size": 700},
        {**PLAIN, "add_dummy_prefix": False},
        NFKC,
        {**NFKC, "normalization_rule_name": "nmt_nfkc_cf", "user_defined_symbols": "<sep>"},
        {**NFKC, "remove_extra_whitespaces": False, "add_dummy_prefix": False},
    ],
    ids=["plain", "bytes", "no prefix", "nfkc", "folded", "spaces kept"],
)
def test_a_unigram_model_has_the_ids_of_sentencepiece(trained, tmp_path):
    model = sentence_pieces(**trained)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    (tmp_path / "spiece.model").write_bytes(model)
    ours = through_gguf(metadata_from_hf({"spiece.model": tmp_path / "spiece.model"}, {}), tmp_path)
    assert ours.vocabulary.model == "t5"
    for text in [*EVEN, "a<sep>b", " a  <sep>  b "]:
        assert ours.encode(text, special=False) == theirs.encode(text), repr(text)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(" \n\taeé①ﬁ\u0301'1<>", max_size=30)


@cache
def normalizing():
    model = sentence_pieces(**NFKC)
    ours = load_tokenizer(parse_sentencepiece(model).to_metadata())
    return ours, sentencepiece.SentencePieceProcessor(model_proto=model)


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_a_normalizing_model_has_the_ids_of_sentencepiece_for_any_text(text):
    ours, theirs = normalizing()
    assert ours.encode(text, special=False) == theirs.encode(text)


@pytest.mark.parametrize(
    "trained",
    [
        {"normalization_rule_name": "nmt_nfkc"},
        {
            "normalization_rule_name": "nmt_nfkc_cf",
            "remove_extra_whitespaces": True,
            "user_defined_symbols": "<sep>",
        },
        {"normalization_rule_name": "nfkc", "add_dummy_prefix": False},
    ],
    ids=str,
)
def test_a_bpe_model_that_normalizes_has_the_ids_of_sentencepiece(trained, tmp_path):
    model = sentence_pieces(**trained)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    (tmp_path / "tokenizer.model").write_bytes(model)
    found = tokenizer_from_hf({"tokenizer.model": tmp_path / "tokenizer.model"}, {})
    ours = through_gguf(found.metadata, tmp_path)
    for text in [*NASTY, *MORE, "a<sep>b", " a  <sep>  b "]:
        assert ours.encode(text, special=False) == theirs.encode(text), repr(text)
    (warning,) = found.warnings
    assert "llama.cpp does not" in warning


def unigram_json(style):
    """A Unigram tokenizer of `tokenizers`, with the steps that transformers gives XLM-R's (`split`) or newer ones."""
    model = sentence_pieces(**NFKC)
    draft = parse_sentencepiece(model)  # for its table of characters only
    trained = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(3, trained.vocab_size())]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram([*((t, 0.0) for t in special), *pieces, ("<mask>", 0.0)], unk_id=3))
    precompiled = normalizers.Precompiled(draft.flags["precompiled_charsmap"].tobytes())
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    if style == "split":
        tokenizer.normalizer = precompiled
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    else:
        squeezed = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "\u2581")]
        tokenizer.normalizer = normalizers.Sequence([precompiled, *squeezed])
        tokenizer.pre_tokenizer = metaspace
    tokenizer.add_special_tokens([*special, AddedToken("<mask>", lstrip=True)])
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return tokenizer


@pytest.mark.parametrize("style", ["split", "strip"])
def test_a_unigram_tokenizer_json_has_the_ids_of_tokenizers(style, tmp_path):
    theirs = unigram_json(style)
    theirs.save(str(tmp_path / "tokenizer.json"))
    found = tokenizer_from_hf(tmp_path, {"type_vocab_size": 1})
    ours = through_gguf(found.metadata, tmp_path)
    assert found.warnings == ()
    assert "tokenizer.huggingface.json" not in found.metadata
    assert found.metadata["tokenizer.ggml.model"] == "t5"
    assert found.metadata["tokenizer.ggml.precompiled_charsmap"].dtype == "uint8"
    for text in [*NASTY, *MORE, "a <mask> b", "a  <mask>", "<mask>"]:
        ids = ours.encode(text, parse_special=True, add_bos=False, add_eos=False)
        assert ids == theirs.encode(text, add_special_tokens=False).ids, repr(text)


def test_the_ends_of_a_unigram_text_are_those_of_its_post_processor(tmp_path):
    unigram_json("strip").save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(metadata_from_hf(tmp_path, {}))
    assert ours.encode("the")[0] == ours.bos_id == 0
    assert ours.encode("the")[-1] == ours.eos_id == 2
    assert ours.decode(ours.encode("the lazy dog"), special=False) == "the lazy dog"


def test_without_a_tokenizer_json_a_text_of_t5_ends_and_does_not_begin(tmp_path):
    (tmp_path / "spiece.model").write_bytes(sentence_pieces(**NFKC))
    metadata = metadata_from_hf(tmp_path, {})
    assert metadata["tokenizer.ggml.add_bos_token"] is False
    assert metadata["tokenizer.ggml.add_eos_token"] is True


def test_a_tokenizer_json_says_the_ids_of_a_unigram_model_beside_it(tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(sentence_pieces(**NFKC))
    theirs = unigram_json("split")
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(metadata_from_hf(tmp_path, {}))
    assert ours.encode("the quick fox") == theirs.encode("the quick fox").ids


def test_the_pieces_of_xlm_r_without_a_tokenizer_json_stand_one_higher(tmp_path):
    model = sentence_pieces(**NFKC)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model)
    ours = load_tokenizer(metadata_from_hf(tmp_path, {}))
    plain = sentencepiece.SentencePieceProcessor(model_proto=model).encode("the quick fox")
    assert min(plain) > 2
    assert ours.encode("the quick fox<mask>") == [0, *(i + 1 for i in plain), ours.vocab_size - 1, 2]
    assert list(ours.tokens[:4]) == ["<s>", "<pad>", "</s>", "<unk>"]


def test_equally_good_cuts_are_settled_as_by_tokenizers():
    vocabulary = [("<unk>", 0.0), ("a", -1.5), ("aa", -3.0), ("aaa", -4.5), ("b", -2.0), ("ab", -3.5)]
    theirs = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    ours = load_tokenizer(
        {
            "tokenizer.ggml.model": "t5",
            "tokenizer.ggml.tokens": [token for token, _ in vocabulary],
            "tokenizer.ggml.scores": [score for _, score in vocabulary],
            "tokenizer.ggml.token_type": [2, 1, 1, 1, 1, 1],
            "tokenizer.ggml.unknown_token_id": 0,
        }
    )
    for text in ("a" * 7, "aab" * 5, "aaaab", "abba", "xxaxx", "xay", "bbx"):
        assert ours.encode(text, special=False) == theirs.encode(text).ids


@pytest.mark.parametrize(
    "table",
    [b"", b"\4\0\0\0", b"\xff\xff\xff\xff\0", b"\4\0\0\0\0\0\0\0", b"\3\0\0\0aaaa\0", b"\4\0\0\0\0\0\0\0ab"],
    ids=base64.b64encode,
)
def test_a_damaged_table_of_characters_is_refused(table):
    with pytest.raises(TokenizerError, match="table of characters of"):
        replacer(table)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=8, max_size=400), st.text(max_size=8))
def test_no_table_of_characters_breaks_the_reader(units, text):
    size = len(units) // 4 * 4
    replace = replacer(size.to_bytes(4, "little") + units[:size] + b"x\0")
    try:
        found = replace(text)
    except TokenizerError:  # it points outside itself
        return
    assert isinstance(found, str)


@pytest.mark.parametrize("key", ["scores", "unknown_token_id"])
def test_a_unigram_vocabulary_without_what_it_needs_is_refused(key):
    metadata = parse_sentencepiece(sentence_pieces(**PLAIN)).to_metadata()
    del metadata[f"tokenizer.ggml.{key}"]
    if key == "unknown_token_id":
        metadata["tokenizer.ggml.tokens"] = metadata["tokenizer.ggml.tokens"][:2]
    with pytest.raises(TokenizerError, match=f"tokenizer.ggml.{key}"):
        load_tokenizer(metadata).encode("a")
