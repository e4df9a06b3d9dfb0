"""Which tokens begin and end texts and turns, and where each key came from."""

import json

import pytest
from tokenizers import Tokenizer

from puna.tokenizer import load_tokenizer, tokenizer_from_hf
from tokenizer.vocabularies import byte_level


def extracted(directory, tokens, config=None, **files):
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    tokenizer.add_special_tokens(list(tokens))
    tokenizer.save(str(directory / "tokenizer.json"))
    for name, value in files.items():
        (directory / f"{name}.json").write_text(json.dumps(value))
    return tokenizer_from_hf(directory, config or {})


def roles(found):
    tokens = found.metadata["tokenizer.ggml.tokens"]
    return {
        key.removeprefix("tokenizer.ggml.").removesuffix("_token_id"): tokens[value]
        for key, value in found.metadata.items()
        if key.endswith("_token_id")
    }


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["<|eot_id|>", "<|eom_id|>"], {"eot": "<|eot_id|>", "eom": "<|eom_id|>"}),
        (["<end_of_turn>"], {"eot": "<|im_end|>"}),  # the first of two, as the small vocabulary has <|im_end|>
        (["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"], None),
        (["<PRE>", "<SUF>", "<MID>"], {"fim_pre": "<PRE>", "fim_suf": "<SUF>", "fim_mid": "<MID>"}),
    ],
)
def test_tokens_of_turns_and_of_filling_in_are_found_by_their_spelling(tokens, expected, tmp_path):
    found = roles(extracted(tmp_path, tokens))
    names = ("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")
    expected = expected or dict(zip(names, tokens, strict=True))
    assert found == {"eot": "<|im_end|>", **expected}


def test_the_end_of_a_part_is_not_the_end_of_a_turn(tmp_path):
    found = extracted(tmp_path, ["<|end|>", "<|return|>", "<|call|>"])
    assert roles(found) == {"eot": "<|im_end|>"}
    assert "<|end|>" not in {
        found.metadata["tokenizer.ggml.tokens"][i] for i in load_tokenizer(found.metadata).stop_ids
    }


def test_every_key_has_an_origin_that_names_a_file(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("T")
    found = extracted(
        tmp_path,
        ["<s>"],
        {"pad_token_id": 3, "text_config": {"bos_token_id": 5}},
        tokenizer_config={"eos_token": "<|im_end|>", "add_eos_token": True},
        generation_config={"eos_token_id": [698, 696], "bos_token_id": 7},
    )
    assert found.origins.keys() == found.metadata.keys()
    short = {key.removeprefix("tokenizer.").removeprefix("ggml."): origin for key, origin in found.origins.items()}
    assert short == {
        **dict.fromkeys(("model", "pre", "tokens", "token_type", "merges"), "tokenizer.json"),
        "bos_token_id": "config.json: text_config: bos_token_id",
        "eos_token_id": "tokenizer_config.json: eos_token",
        "eot_token_id": "the token <|im_end|>",
        "padding_token_id": "config.json: pad_token_id",
        "add_eos_token": "tokenizer_config.json: add_eos_token",
        "eos_token_ids": "generation_config.json: eos_token_id",
        "chat_template": "chat_template.jinja",
    }
