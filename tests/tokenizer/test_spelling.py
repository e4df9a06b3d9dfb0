"""All tokens' bytes at once are those of each."""

import pytest

from puna.tokenizer import load_tokenizer
from puna.tokenizer.spelling import spellings
from tokenizer import worlds
from tokenizer.vocabularies import (
    byte_level,
    byte_level_metadata,
    sentence_pieces,
    sentence_pieces_metadata,
    word_pieces,
    word_pieces_metadata,
)


def made(metadata, tokens=(), types=()):
    """The tokenizer of some metadata with further tokens."""
    key = "tokenizer.ggml."
    more = {key + "tokens": [*metadata[key + "tokens"], *tokens]}
    more[key + "token_type"] = [*metadata[key + "token_type"], *types]
    if key + "scores" in metadata:
        more[key + "scores"] = [*metadata[key + "scores"], *([0.0] * len(tokens))]
    return load_tokenizer(metadata | more)


BYTE_LEVEL = byte_level_metadata(byte_level(), "qwen2")
PIECES = sentence_pieces_metadata(sentence_pieces())


@pytest.mark.parametrize(
    ("tokenizer", "last"),
    [
        (made(BYTE_LEVEL, ["Ġa", "Ċ", "ĠÃ©", "<|é|>", "<b é>"], [1, 1, 5, 3, 4]),
         [b" a", b"\n", " é".encode(), "<|é|>".encode(), "<b é>".encode()]),
        (made(BYTE_LEVEL, ["Ġ日a", "x y", "\u0180", "\U0001f600Ġ"], [1] * 4),
         [" 日a".encode(), b"x y", "\u0180".encode(), "\U0001f600 ".encode()]),
        (made(PIECES, ["▁▁é", "[X▁Y]", "▁<u>"], [1, 3, 4]), ["  é".encode(), "[X▁Y]".encode(), b" <u>"]),
        (made(PIECES, ["a\0b▁", "c"], [1, 1]), [b"a\0b ", b"c"]),
        (load_tokenizer(word_pieces_metadata(word_pieces())), []),
    ],
    ids=["byte level", "letters that are no bytes", "pieces", "a zero", "words"],
)  # fmt: skip
def test_all_tokens_are_spelled_as_each_is(tokenizer, last):
    found = spellings(tokenizer)
    assert found == [tokenizer.bytes_of(i) for i in range(tokenizer.vocab_size)]
    assert found[len(found) - len(last) :] == last


def test_tokens_of_bytes_are_spelled_as_they_are():
    tokens = worlds.tokens()
    metadata = {"tokenizer.ggml.model": "rwkv", "tokenizer.ggml.tokens": [token.decode("latin-1") for token in tokens]}
    tokenizer = load_tokenizer(metadata)
    assert spellings(tokenizer) == [tokenizer.bytes_of(i) for i in range(tokenizer.vocab_size)]
