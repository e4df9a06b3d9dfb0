"""Vocabularies by ranks: ids equal those of the plain algorithm, written out here, which tiktoken and Mistral use."""

import base64
import itertools
import json
import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import ConversionError, FormatError
from puna.tokenizer import load_tokenizer, metadata_from_hf, tokenizer_from_hf
from puna.tokenizer.pretokenize import find_scheme, find_split
from puna.tokenizer.ranks import parse_tiktoken
from tokenizer.corpus import NASTY

TEKKEN = find_scheme("tekken").patterns[0]
BYTES = [bytes([byte]) for byte in range(256)]


def by_rank(piece, ranks):
    """Joins the leftmost neighbours of the lowest rank until none have one."""
    if piece in ranks:
        return [ranks[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        found = [(ranks[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in ranks]
        if not found:
            return [ranks[part] for part in parts]
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@cache
def ranked(count):
    """Bytes, then strings of two tokens each that overlap in every way."""
    choose = random.Random(3)
    tokens = [b"\xc3\x28", *BYTES]
    tokens = list(dict.fromkeys(tokens[1:]))
    words = [" the", "the", " a", "aaa", "abab", "ing", "\n\n", "  ", "é", "世", "'s", "12"]
    seeds = [word.encode()[:n] for word in words for n in range(2, len(word.encode()) + 1)]
    for seed in seeds:
        if seed not in tokens:
            tokens.append(seed)
    while len(tokens) < count:
        made = choose.choice(tokens) + choose.choice(tokens[97:123] + tokens[256:])
        if made not in tokens and len(made) < 9:
            tokens.append(made)
    return tuple(tokens)


def tekken(count=600, special=None, before=20):
    vocab = [
        {"rank": i, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for i, token in enumerate(ranked(count))
    ]
    spec = {
        "config": {
            "pattern": TEKKEN,
            "num_vocab_tokens": count,
            "default_vocab_size": count + before - 50,  # the last 50 are left out
            "default_num_special_tokens": before,
            "version": "v3",
        },
        "vocab": vocab,
    }
    return spec if special is None else {**spec, "special_tokens": special}


def saved(directory, name, value):
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return directory


def tiktoken(tokens):
    return b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(tokens))


@cache
def tekken_tokenizer(tmp):
    return load_tokenizer(metadata_from_hf(saved(tmp, "tekken.json", tekken()), {}))


def test_tekken_ids_are_those_of_the_plain_algorithm(tmp_path):
    ours = tekken_tokenizer(tmp_path)
    ranks = {token: i + 20 for i, token in enumerate(ranked(600)[:550])}
    split = find_split((TEKKEN,))
    for text in [*NASTY, "aaaaaaa abababab aababaaa", "the the  ing"]:
        expected = [i for piece in split(text) for i in by_rank(piece.encode(), ranks)]
        assert ours.encode(text, special=False) == expected, repr(text)
        assert ours.decode(expected) == text


@given(st.text("ab the\n'sing12é世", max_size=30))
def test_tekken_ids_are_those_of_the_plain_algorithm_for_any_text(tmp_path_factory, text):
    ours = tekken_tokenizer(tmp_path_factory.getbasetemp())
    ranks = {token: i + 20 for i, token in enumerate(ranked(600)[:550])}
    expected = [i for piece in find_split((TEKKEN,))(text) for i in by_rank(piece.encode(), ranks)]
    assert ours.encode(text, special=False) == expected


def test_the_keys_of_a_tekken_file(tmp_path):
    found = tokenizer_from_hf(saved(tmp_path, "tekken.json", tekken()), {})
    keys = found.metadata
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"]) == ("gpt2", "tekken")
    assert [keys[f"tokenizer.ggml.{role}_token_id"] for role in ("unknown", "bos", "eos", "padding")] == [0, 1, 2, 11]
    assert keys["tokenizer.ggml.tokens"][3:5] == ["[INST]", "[/INST]"]
    assert keys["tokenizer.ggml.token_type"][:20].tolist() == [3] * 20
    assert len(keys["tokenizer.ggml.tokens"]) == 570
    assert found.warnings == ()
    assert load_tokenizer(keys).encode("[INST]a")[:2] == [1, 3]


def test_special_tokens_that_a_tekken_file_lists_are_taken_and_the_rest_is_numbered(tmp_path):
    special = [
        {"rank": 0, "token_str": "<unk>", "is_control": True},
        {"rank": 1, "token_str": "<s>", "is_control": True},
        {"rank": 2, "token_str": "</s>", "is_control": True},
        {"rank": 3, "token_str": "[THINK]", "is_control": False},
    ]
    metadata = metadata_from_hf(saved(tmp_path, "tekken.json", tekken(special=special, before=6)), {})
    assert metadata["tokenizer.ggml.tokens"][3:6] == ["[THINK]", "<SPECIAL_4>", "<SPECIAL_5>"]
    assert metadata["tokenizer.ggml.token_type"][:6].tolist() == [3, 3, 3, 4, 3, 3]


def test_the_merges_are_those_that_make_a_token_of_two_others(tmp_path):
    metadata = metadata_from_hf(saved(tmp_path, "tekken.json", tekken()), {})
    merges = [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]]
    tokens = metadata["tokenizer.ggml.tokens"][20:]
    ranks = {token: i for i, token in enumerate(tokens)}
    expected = {
        (token[:i], token[i:])
        for token in tokens
        for i in range(1, len(token))
        if token[:i] in ranks and token[i:] in ranks
    }
    assert {tuple(pair) for pair in merges} == expected
    made = [ranks[a + b] for a, b in merges]
    assert made == sorted(made)


def test_a_tekken_pattern_without_a_name_is_said_and_kept(tmp_path):
    spec = tekken()
    pattern = spec["config"]["pattern"] = TEKKEN.replace("\\p{N}|", "\\p{N}{1,2}|")
    found = tokenizer_from_hf(saved(tmp_path, "tekken.json", spec), {})
    (warning,) = found.warnings
    assert "the closest is 'tekken'" in warning
    ours = load_tokenizer(found.metadata)
    ranks = {token: i + 20 for i, token in enumerate(ranked(600)[:550])}
    for text in NASTY:
        expected = [i for piece in find_split((pattern,))(text) for i in by_rank(piece.encode(), ranks)]
        assert ours.encode(text, special=False) == expected, repr(text)
        assert ours.decode(expected) == text


@pytest.mark.parametrize(
    "change", [{"config": {}}, {"vocab": None}, {"vocab": [{"rank": 0}]}, {"config": {"pattern": "x"}, "vocab": 3}]
)
def test_a_tekken_file_without_its_parts_is_refused(change, tmp_path):
    with pytest.raises(FormatError, match=r"reading tekken\.json"):
        metadata_from_hf(saved(tmp_path, "tekken.json", tekken() | change), {})


def test_a_tiktoken_file_is_known_by_its_number_of_ranks(tmp_path):
    # Llama 3's own number of ranks: a few real ones, and tokens of four bytes that no text here spells
    tokens = [*ranked(400), *(b"\xff" + i.to_bytes(3, "big") for i in range(128000 - 400))]
    directory = saved(tmp_path, "tokenizer.model", tiktoken(tokens))
    metadata = metadata_from_hf(directory, {})
    ours = load_tokenizer(metadata)
    assert metadata["tokenizer.ggml.pre"] == "llama-bpe"
    assert (ours.bos_id, ours.eos_id, ours.eot_id) == (128000, 128001, 128009)
    assert ours.vocab_size == 128256
    assert len(set(ours.tokens)) == 128256
    ranks = {token: i for i, token in enumerate(tokens)}
    for text in NASTY:
        pieces = find_split(find_scheme("llama-bpe").patterns)(text)
        assert ours.encode(text, special=False) == [i for piece in pieces for i in by_rank(piece.encode(), ranks)]
    assert ours.encode("<|eot_id|>") == [128000, 128009]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (tiktoken(BYTES), ConversionError, "qwen.tiktoken: it has 256 ranks .* known are 50256 .gpt-2"),
        (b"YQ== 0\nYg==\n", FormatError, "line 2"),
        (b"YQ== 0\nYg== 2\n", FormatError, "line 2: rank 2 follows rank 0"),
        (b"Y 0\n", FormatError, "line 1"),
    ],
)
def test_a_tiktoken_file_that_is_none_or_not_known_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        parse_tiktoken(data, "qwen.tiktoken")
