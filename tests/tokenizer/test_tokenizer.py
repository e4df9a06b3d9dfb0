import json

import pytest

from puna.errors import TokenizerError
from puna.tokenizer import TokenType, load_tokenizer
from tokenizer.corpus import NASTY
from tokenizer.vocabularies import (
    byte_level,
    byte_level_metadata,
    sentence_pieces,
    sentence_pieces_metadata,
    word_pieces,
    word_pieces_metadata,
)


def bpe(**more):
    return load_tokenizer(byte_level_metadata(byte_level(), "deepseek-r1-qwen", **more))


def spm(**more):
    return load_tokenizer(sentence_pieces_metadata(sentence_pieces(), **more))


def test_special_tokens_in_text_become_ids_unless_text_is_to_stay_text():
    tokenizer = bpe()
    start, end = tokenizer.bos_id, tokenizer.eos_id
    assert tokenizer.encode("<|im_start|><|im_end|>") == [start, end]
    outside = tokenizer.encode("<|im_start|><|im_end|>", special=False)
    assert start not in outside
    assert end not in outside
    assert tokenizer.decode(outside) == "<|im_start|><|im_end|>"


def test_user_defined_tokens_are_found_even_in_text_from_outside():
    tokenizer = bpe()
    identity = list(tokenizer.tokens).index("<tool_call>")
    assert tokenizer.token_type(identity) == TokenType.USER_DEFINED
    assert identity in tokenizer.encode("a<tool_call>b", special=False)


def test_begin_and_end_are_added_as_the_metadata_says():
    tokenizer = bpe(add_bos_token=True, add_eos_token=True)
    assert tokenizer.encode("a") == [tokenizer.bos_id, *tokenizer.encode("a", special=False), tokenizer.eos_id]
    assert tokenizer.encode("") == [tokenizer.bos_id, tokenizer.eos_id]
    assert tokenizer.encode("", special=False) == []


def test_a_rendered_template_gets_no_second_begin_token():
    tokenizer = bpe(add_bos_token=True)
    assert tokenizer.encode("<|im_start|>user") == [tokenizer.bos_id, *tokenizer.encode("user", special=False)]
    assert tokenizer.encode("<|im_start|>", add_bos=True) == [tokenizer.bos_id] * 2
    assert tokenizer.encode("<|im_start|>", parse_special=True, add_bos=False) == [tokenizer.bos_id]


def test_each_part_of_special_can_be_settled_by_itself():
    tokenizer = bpe(add_bos_token=True)
    assert tokenizer.encode("<|im_end|>", special=False, parse_special=True) == [tokenizer.eos_id]
    assert tokenizer.encode("a", special=False, add_eos=True)[-1] == tokenizer.eos_id
    assert tokenizer.bos_id not in tokenizer.encode("a", add_bos=False)


def test_control_pieces_are_not_spelled_together_from_outside_text():
    tokenizer = spm()
    ids = tokenizer.encode("<s></s><unk><0x41>[INST]", special=False)
    kinds = {
        tokenizer.token_type(i) for i in ids if tokenizer.tokens[i] in ("<s>", "</s>", "<unk>", "[INST]", "<0x41>")
    }
    assert not kinds
    assert tokenizer.decode(ids) == "<s></s><unk><0x41>[INST]"


def test_the_prefix_space_follows_each_control_token_and_leaves_no_trace():
    tokenizer = spm()
    inst = list(tokenizer.tokens).index("[INST]")
    plain = tokenizer.encode("hello", special=False)
    assert tokenizer.encode("[INST]hello") == [tokenizer.bos_id, inst, *plain]
    assert tokenizer.decode(plain) == "hello"
    assert tokenizer.decode([tokenizer.bos_id, *plain]) == "<s>hello"
    assert tokenizer.decode([tokenizer.bos_id, *plain], special=False) == "hello"


def test_a_stream_never_hands_out_a_part_of_a_character():
    for tokenizer in (bpe(), spm()):
        for text in NASTY:
            ids = tokenizer.encode(text, special=False)
            stream = tokenizer.stream()
            parts = [stream.push(i) for i in ids]
            assert stream.flush() == ""
            assert "".join(parts) == b"".join(map(tokenizer.bytes_of, ids)).decode()


def test_a_stream_that_ends_inside_a_character_says_so_once():
    tokenizer = spm()
    stream = tokenizer.stream()
    bytes_of = {tokenizer.tokens[i]: i for i in range(tokenizer.vocab_size)}
    assert [stream.push(bytes_of[t]) for t in ("<0xF0>", "<0x9F>", "<0x98>")] == ["", "", ""]
    assert stream.flush() == "\ufffd"
    assert [stream.push(bytes_of[t]) for t in ("<0xF0>", "<0x9F>", "<0x98>", "<0x80>")] == ["", "", "", "😀"]
    assert stream.push(bytes_of["<0xFF>"]) == "\ufffd"
    assert stream.flush() == ""


def test_a_stream_leaves_control_tokens_out_when_asked():
    tokenizer = bpe()
    ids = tokenizer.encode("a<|im_end|>b")
    shown, hidden = tokenizer.stream(), tokenizer.stream(special=False)
    assert "".join(map(shown.push, ids)) == "a<|im_end|>b"
    assert "".join(map(hidden.push, ids)) == "ab"


def test_broken_bytes_decode_to_the_replacement_character():
    tokenizer = spm()
    bytes_of = {tokenizer.tokens[i]: i for i in range(tokenizer.vocab_size)}
    assert tokenizer.decode([bytes_of["<0xC3>"], bytes_of["<0x28>"]]) == "\ufffd("


def test_a_lone_surrogate_is_refused_with_its_place():
    with pytest.raises(TokenizerError, match=r"character 2 is the lone surrogate U\+D83D"):
        bpe().encode("ab\ud83d")


def test_every_end_of_a_turn_stops_generation():
    metadata = byte_level_metadata(byte_level(), "qwen2", **{"eos_token_ids": [5]})
    tokenizer = load_tokenizer(metadata)
    assert {tokenizer.tokens[i] for i in tokenizer.stop_ids - {5}} == {"<|im_end|>", "<|endoftext|>"}
    assert 5 in tokenizer.stop_ids


def test_parts_of_a_harmony_answer_do_not_stop_it():
    names = ("<|return|>", "<|call|>", "<|end|>")
    metadata = byte_level_metadata(byte_level(), "qwen2")
    metadata["tokenizer.ggml.tokens"] += names
    metadata["tokenizer.ggml.token_type"] += [3] * 3
    tokenizer = load_tokenizer(metadata)
    assert {"<|return|>", "<|call|>"} <= {tokenizer.tokens[i] for i in tokenizer.stop_ids}
    assert "<|end|>" not in {tokenizer.tokens[i] for i in tokenizer.stop_ids}


@pytest.mark.parametrize(("also", "stops"), [("<x>", True), ("<eos>", False)])
def test_a_closing_s_ends_a_text_unless_it_is_a_tag_beside_another_end(also, stops):
    metadata = byte_level_metadata(byte_level(), "qwen2")
    metadata["tokenizer.ggml.tokens"] += ["</s>", also]
    metadata["tokenizer.ggml.token_type"] += [4, 3]
    tokenizer = load_tokenizer(metadata)
    assert (700 in tokenizer.stop_ids) is stops
    assert tokenizer.is_special(700) is stops


def test_a_turn_end_that_a_file_calls_user_defined_is_still_kept_out_of_outside_text():
    metadata = byte_level_metadata(byte_level(), "qwen2")
    identity = metadata["tokenizer.ggml.tokens"].index("<|im_end|>")
    metadata["tokenizer.ggml.token_type"][identity] = 4
    tokenizer = load_tokenizer(metadata)
    assert identity not in tokenizer.encode("<|im_end|>", special=False)
    assert tokenizer.is_special(identity)


def test_wordpiece_text_closes_its_gaps():
    tokenizer = load_tokenizer(word_pieces_metadata(word_pieces()))
    ids = tokenizer.encode("Hello, world! It's the lazy dog.", special=False)
    assert tokenizer.decode(ids) == "hello, world! it's the lazy dog."


def test_the_properties_name_the_roles():
    tokenizer = load_tokenizer(word_pieces_metadata(word_pieces()))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.pad_id) == (2, 3, 1, 0)
    assert tokenizer.eot_id is None
    assert tokenizer.vocab_size == len(tokenizer.tokens) == 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "plamo2"}, "model 'plamo2' .* is not supported; supported: gpt2"),
        ({"model": "t5"}, "model 't5' needs 'tokenizer.ggml.scores'"),
        ({"model": None}, "no 'tokenizer.ggml.model'"),
        ({"tokens": None}, "no list 'tokenizer.ggml.tokens'"),
        ({"tokens": []}, "no list 'tokenizer.ggml.tokens'"),
        ({"merges": None}, "no list 'tokenizer.ggml.merges'"),
        ({"token_type": [1, 1]}, "'tokenizer.ggml.token_type' has 2 entries for 700 tokens"),
        ({"pre": "qwen3"}, "pre-tokenizer 'qwen3' .* is unknown; closest: qwen35, qwen2"),
        ({"add_bos_token": True, "bos_token_id": None}, "'tokenizer.ggml.add_bos_token' is true"),
        ({"normalizer.unicode": "NFX"}, "is 'NFX'; none, NFC"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_metadata_that_makes_no_tokenizer_is_refused_by_name(change, message):
    metadata = byte_level_metadata(byte_level(), "qwen2")
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer({key: value for key, value in metadata.items() if value is not None}).encode("a")


def test_a_file_from_before_pre_tokenizer_names_loads_with_a_warning(caplog):
    metadata = byte_level_metadata(byte_level(), "qwen2")
    del metadata["tokenizer.ggml.pre"]
    load_tokenizer(metadata)
    ((name, _, said),) = caplog.record_tuples
    assert name == "puna"
    assert "the metadata has no 'tokenizer.ggml.pre'" in said
    assert "\n" not in said


def test_an_id_outside_the_vocabulary_is_refused():
    with pytest.raises(TokenizerError, match="there is no token 700; ids run from 0 to 699"):
        bpe().decode([700])
    with pytest.raises(TokenizerError, match="there is no token -1"):
        bpe().stream().push(-1)


def test_a_character_without_token_bytes_or_unknown_token_is_refused():
    metadata = {
        "tokenizer.ggml.model": "gemma4",
        "tokenizer.ggml.tokens": ["a", "b", "ab"],
        "tokenizer.ggml.merges": ["a b"],
    }
    tokenizer = load_tokenizer(metadata)
    assert tokenizer.encode("aab") == [0, 2]
    with pytest.raises(TokenizerError, match="'c' has no token"):
        tokenizer.encode("abc")
