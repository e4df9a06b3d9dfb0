"""RWKV's World vocabulary: ids equal those of the plain algorithm, and what a file may not say is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import FormatError, TokenizerError
from puna.template import render
from puna.tokenizer import TokenType, load_tokenizer, tokenizer_from_hf
from tokenizer import worlds
from tokenizer.corpus import NASTY

FILE = "rwkv_vocab_v20230424.txt"
END = "<|rwkv_tokenizer_end_of_text|>"
IDS = {raw: i for i, raw in enumerate(worlds.tokens(), 1)}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(
    "ab cdef\n\t\\x0'\"日本🦙é<s>", max_size=40
)


def checkpoint(folder, text=None, **settings):
    (folder / FILE).write_text(worlds.lines(worlds.tokens()) if text is None else text, "utf-8", newline="")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    extraction = tokenizer_from_hf(checkpoint(tmp_path_factory.mktemp("world")), {"model_type": "rwkv7"}, rows=320)
    assert extraction.warnings == ()
    return extraction.metadata


def test_ids_equal_those_of_the_plain_algorithm(small):
    tokenizer = load_tokenizer(small)
    for text in [*NASTY, "日本語 \n\n\n\n🦙🦙 it's \\x00", "<s>[PAD310]"]:
        assert tokenizer.encode(text, special=False) == worlds.greedy(text.encode(), IDS), repr(text)
        assert tokenizer.decode(tokenizer.encode(text, special=False)) == text


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_ids_equal_those_of_the_plain_algorithm_for_any_text(small, text):
    tokenizer = load_tokenizer(small)
    ids = tokenizer.encode(text, special=False)
    assert ids == worlds.greedy(text.encode(), IDS)
    assert b"".join(map(tokenizer.bytes_of, ids)) == text.encode()


def test_every_token_has_its_bytes(small):
    tokenizer = load_tokenizer(small)
    assert [tokenizer.bytes_of(i) for i in range(1, 307)] == worlds.tokens()


def test_a_character_that_tokens_share_is_shown_when_it_is_whole(small):
    stream = load_tokenizer(small).stream()
    assert [stream.push(i) for i in (300, IDS[b"\xa6\x99"], IDS[b"0"])] == ["", "🦙", "0"]


def test_the_keys_are_those_that_llama_cpp_reads(small):
    tokens = small["tokenizer.ggml.tokens"]
    assert small["tokenizer.ggml.model"] == "rwkv"
    assert [tokens[i] for i in (0, 1, 10, 11, 40, 93, 256)] == ["<s>", "\\x00", "\\t", "\\n", "'", "\\\\", "\\xff"]
    assert [tokens[i] for i in (257, 269, 293, 306, 307)] == ["\\t\\n", "it's", "\\'\"", "\\xad\\xe6\\x9c", "[PAD307]"]
    assert [int(small["tokenizer.ggml.token_type"][i]) for i in (0, 1, 306, 307)] == [3, 1, 1, 5]
    assert [small[f"tokenizer.ggml.{role}_token_id"] for role in ("bos", "eos", "eot")] == [0, 0, 261]
    assert len(tokens) == 320


def test_the_end_of_a_text_is_added_by_no_one_and_understood_where_it_is_asked_for(small):
    tokenizer = load_tokenizer(small)
    assert tokenizer.encode("<s>a") == [0, IDS[b"a"]]
    assert tokenizer.encode("a") == [IDS[b"a"]]
    assert tokenizer.stop_ids == {0, 261}


@pytest.mark.parametrize("listed", [{}, {"added_tokens_decoder": {"0": {"content": END, "special": True}}}])
def test_a_config_says_how_the_end_is_spelled_and_makes_no_second_token_of_one(listed, tmp_path):
    """As published configs do: the end of a turn is listed with an id that no model knows."""
    ends = {"bos_token": END, "eos_token": "\n\n", "pad_token": END}
    if listed:
        listed["added_tokens_decoder"]["310"] = {"content": "\n\n", "special": True}
    metadata = tokenizer_from_hf(checkpoint(tmp_path, **ends, **listed), {"eos_token_id": 2}, rows=320).metadata
    tokenizer = load_tokenizer(metadata)
    assert tokenizer.encode(f"{END}User\n\n") == [0, IDS[b"User"], 261]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.eot_id) == (0, 0, 261)
    assert tokenizer.token_type(310) is TokenType.UNUSED


def test_further_tokens_are_control_tokens(tmp_path):
    listed = {"307": {"content": "<call>", "special": True}, "65": {"content": "B", "special": True}}
    folder = checkpoint(tmp_path, added_tokens_decoder=listed)
    tokenizer = load_tokenizer(tokenizer_from_hf(folder, {}, rows=320).metadata)
    assert tokenizer.encode("a<call>") == [IDS[b"a"], 307]
    assert tokenizer.bytes_of(65) == b"@"


def test_without_a_template_it_is_the_one_that_world_models_know(small, tmp_path):
    template = small["tokenizer.chat_template"]
    said = [("system", "Be brief."), ("user", " hi "), ("assistant", "<think>x</think> yes"), ("user", "why?")]
    messages = [{"role": role, "content": content} for role, content in said]
    want = "System: Be brief.\n\nUser: hi\n\nAssistant: yes\n\nUser: why?\n\nAssistant:"
    assert render(template, messages, bos_token="<s>", add_generation_prompt=True) == "<s>" + want
    own = checkpoint(tmp_path, chat_template="own")
    assert tokenizer_from_hf(own, {}, rows=320).metadata["tokenizer.chat_template"] == "own"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 'a' 1\n2 'b' 2\n", r"line 2: 'b' is not a text or bytes of 2 bytes"),
        ("1 'a'\n", "line 1: not enough values"),
        ("1 'a 1\n", "line 1: unterminated"),
        ("1 __import__('os') 1\n", "line 1: malformed"),
        ("1 17 1\n", "line 1: 17 is not a text"),
        ("1 '' 0\n", "line 1: '' is not a text"),
        ("0 'a' 1\n", "line 1: its id is 0"),
        ("x 'a' 1\n", "line 1: invalid literal for int"),
        ("1 'a' 1\n\n2 b'a' 1\n", r"line 3: b'a' is token 1 already"),
        ("1 '\\ud800' 3\n", "line 1: .*surrogates not allowed"),
    ],
)
def test_a_damaged_file_is_refused_by_line(text, message, tmp_path):
    with pytest.raises(FormatError, match=f"reading {FILE}: {message}"):
        tokenizer_from_hf(checkpoint(tmp_path, text), {})


def test_lines_may_end_as_on_windows(tmp_path):
    text = worlds.lines(worlds.tokens()).replace("\n", "\r\n")
    assert load_tokenizer(tokenizer_from_hf(checkpoint(tmp_path, text), {}, rows=320).metadata).encode("aaa") == [
        IDS[b"aaa"]
    ]


def test_a_byte_without_a_token_is_unknown_or_an_error(small):
    """Only in files that are not the published one, which has every byte."""
    tokens = ["<s>", "a", "b\\x63", "\\xc3\\xa9", "<unk>"]
    keys = {
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 1, 1, 1, 2],
    }
    with pytest.raises(TokenizerError, match="the byte b'b' has no token"):
        load_tokenizer(keys).encode("ab")
    assert load_tokenizer({**keys, "tokenizer.ggml.unknown_token_id": 4}).encode("abbcé<") == [1, 4, 2, 3, 4]
