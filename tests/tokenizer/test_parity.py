"""Ids equal those of `tokenizers` and `sentencepiece`, on small vocabularies and nasty texts."""

import random
import re
import struct

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.tokenizer import load_tokenizer
from tokenizer.corpus import NASTY, SPACES
from tokenizer.vocabularies import (
    LLAMA3,
    QWEN2,
    byte_level,
    byte_level_metadata,
    sentence_pieces,
    sentence_pieces_metadata,
    word_pieces,
    word_pieces_metadata,
)

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(" \n\taeé'1<>_▁", max_size=40)


@pytest.mark.parametrize(
    ("pattern", "normalizer", "pre"),
    [(QWEN2, None, "deepseek-r1-qwen"), (QWEN2, "NFC", "qwen2"), (LLAMA3, None, "dbrx"), (GPT2, None, "gpt-2")],
)
def test_byte_level_ids_equal_those_of_tokenizers(pattern, normalizer, pre):
    theirs = byte_level(pattern, normalizer)
    ours = load_tokenizer(byte_level_metadata(theirs, pre))
    for text in NASTY:
        assert ours.encode(text) == theirs.encode(text).ids, repr(text)


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_byte_level_ids_equal_those_of_tokenizers_for_any_text(text):
    theirs = byte_level()
    ours = load_tokenizer(byte_level_metadata(theirs, "deepseek-r1-qwen"))
    assert ours.encode(text) == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"add_dummy_prefix": False},
        {"byte_fallback": False, "vocab_size": 400},
        {"remove_extra_whitespaces": True, "user_defined_symbols": "<sep>"},
        {"allow_whitespace_only_pieces": True, "user_defined_symbols": "<sep>"},
    ],
    ids=str,
)
def test_sentencepiece_ids_equal_those_of_sentencepiece(settings):
    model = sentence_pieces(**settings)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = load_tokenizer(
        sentence_pieces_metadata(
            model,
            add_space_prefix=settings.get("add_dummy_prefix", True),
            remove_extra_whitespaces=settings.get("remove_extra_whitespaces", False),
        )
    )
    for text in [*NASTY, "a<sep>b", "<sep>", " <sep> x", "a" + " " * 7 + "b<sep>" * 3]:
        assert ours.encode(text, special=False) == theirs.encode(text), repr(text)


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_sentencepiece_ids_equal_those_of_sentencepiece_for_any_text(text):
    model = sentence_pieces()
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = load_tokenizer(sentence_pieces_metadata(model))
    assert ours.encode(text, special=False) == theirs.encode(text)
    assert ours.decode(ours.encode(text, special=False)) == text.replace("▁", " ")


def test_a_long_run_without_words_has_the_ids_of_sentencepiece():
    model = sentence_pieces()
    text = "".join(random.Random(1).choices("theoabr", k=5000))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert load_tokenizer(sentence_pieces_metadata(model)).encode(text, special=False) == theirs.encode(text)


def made_unused(model, piece, score):
    """The model with a piece's type set to unused (5), in its protobuf."""
    text = piece.encode()
    message = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score)
    before = b"\x0a" + bytes([len(message)]) + message
    assert model.count(before) == 1
    return model.replace(before, b"\x0a" + bytes([len(message) + 2]) + message + b"\x18\x05")


def test_unused_pieces_are_taken_apart_as_in_sentencepiece():
    model = sentence_pieces()
    trained = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(trained.vocab_size())]
    chosen = [(piece, score) for piece, score in pieces if len(piece) > 2 and not re.match("<|\\[|\u2581{2}", piece)][
        ::2
    ]
    for piece, score in chosen:
        model = made_unused(model, piece, score)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = load_tokenizer(sentence_pieces_metadata(model))
    for text in [*NASTY, *(piece.replace("\u2581", " ") for piece, _ in chosen)]:
        ids = ours.encode(text, special=False)
        assert ids == theirs.encode(text), repr(text)
        assert not any(theirs.is_unused(i) for i in ids)


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_ids_equal_those_of_tokenizers(lowercase):
    theirs = word_pieces(lowercase)
    ours = load_tokenizer(
        word_pieces_metadata(theirs, **{"normalizer.lowercase": lowercase, "normalizer.strip_accents": lowercase})
    )
    for text in NASTY:
        assert ours.encode(text, add_bos=True, add_eos=True) == theirs.encode(text).ids, repr(text)


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_case_is_told_from_the_vocabulary_where_no_key_says_it(lowercase):
    theirs = word_pieces(lowercase)
    ours = load_tokenizer(word_pieces_metadata(theirs))
    text = "The Quick brown FOX, Ünïcödé"
    assert ours.encode(text) == theirs.encode(text).ids


def test_spaces_survive_a_round_trip_through_every_kind_that_keeps_them():
    for ours in (
        load_tokenizer(byte_level_metadata(byte_level(), "deepseek-r1-qwen")),
        load_tokenizer(sentence_pieces_metadata(sentence_pieces())),
    ):
        for text in (text for text in SPACES if "▁" not in text):
            assert ours.decode(ours.encode(text, special=False)) == text
