import json

import numpy as np
import pytest
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from puna.errors import ConversionError, FormatError
from puna.formats.gguf import open_gguf
from puna.formats.gguf_writer import write_gguf
from puna.tokenizer import load_tokenizer, metadata_from_hf, tokenizer_from_hf
from puna.tokenizer.sentencepiece_model import parse_sentencepiece
from tokenizer.corpus import NASTY
from tokenizer.vocabularies import LLAMA3, QWEN2, byte_level, sentence_pieces, splits, word_pieces


def written(directory, name, value):
    directory.mkdir(exist_ok=True)
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    (directory / name).write_bytes(text)
    return directory


def checkpoint(directory, tokenizer, **config):
    """A checkpoint's tokenizer files, as transformers saves them."""
    written(directory, "tokenizer.json", json.loads(tokenizer.to_str()))
    return written(directory, "tokenizer_config.json", config)


CHATML = {
    "eos_token": "<|im_end|>",
    "pad_token": {"content": "<|endoftext|>", "__type": "AddedToken"},
    "bos_token": None,
}


def through_gguf(metadata, tmp_path):
    """The tokenizer of the metadata after it was written to a file and read again."""
    path = tmp_path / "vocabulary.gguf"
    write_gguf(path, {"general.architecture": "llama", **metadata}, [])
    return load_tokenizer(open_gguf(path).metadata)


@pytest.mark.parametrize(
    ("pattern", "normalizer", "pre"),
    [(QWEN2, "NFC", "qwen2"), (QWEN2, None, "deepseek-r1-qwen"), (LLAMA3, None, "dbrx")],
)
def test_byte_level_files_become_a_gguf_with_the_same_ids(pattern, normalizer, pre, tmp_path):
    theirs = byte_level(pattern, normalizer)
    metadata = metadata_from_hf(checkpoint(tmp_path / "hf", theirs, **CHATML), {"vocab_size": 704})
    ours = through_gguf(metadata, tmp_path)
    assert metadata["tokenizer.ggml.model"] == "gpt2"
    assert metadata["tokenizer.ggml.pre"] == pre
    for text in NASTY:
        assert ours.encode(text) == theirs.encode(text).ids, repr(text)


def test_the_keys_of_a_byte_level_checkpoint(tmp_path):
    theirs = byte_level(QWEN2, "NFC")
    metadata = metadata_from_hf(checkpoint(tmp_path, theirs, **CHATML, add_bos_token=False), {"vocab_size": 704})
    end, fill = theirs.token_to_id("<|im_end|>"), theirs.token_to_id("<|endoftext|>")
    assert {key.removeprefix("tokenizer.ggml.") for key in metadata} == {
        *("model", "pre", "tokens", "token_type", "merges", "eos_token_id", "eot_token_id", "padding_token_id"),
    }
    assert (metadata["tokenizer.ggml.eos_token_id"], metadata["tokenizer.ggml.padding_token_id"]) == (end, fill)
    types = metadata["tokenizer.ggml.token_type"]
    assert types.dtype == np.int32
    assert types[end] == types[fill] == 3
    assert types[theirs.token_to_id("<tool_call>")] == 4
    assert metadata["tokenizer.ggml.tokens"][700:] == ["[PAD700]", "[PAD701]", "[PAD702]", "[PAD703]"]
    assert types[700:].tolist() == [5] * 4
    assert types[:4].tolist() == [1] * 4


def test_a_normalizer_that_the_name_does_not_imply_is_written_beside_it(tmp_path):
    theirs = byte_level(LLAMA3, "NFC")
    metadata = metadata_from_hf(checkpoint(tmp_path, theirs), {})
    assert metadata["tokenizer.ggml.pre"] == "dbrx"
    assert metadata["tokenizer.ggml.normalizer.unicode"] == "NFC"
    text = "e\u0301 n\u0303"
    assert load_tokenizer(metadata).encode(text) == theirs.encode(text).ids


def test_merges_as_strings_and_as_pairs_are_the_same(tmp_path):
    spec = json.loads(byte_level().to_str())
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in spec["model"]["merges"]]
    found = []
    for name, merges in (("pairs", pairs), ("strings", [" ".join(pair) for pair in pairs])):
        spec["model"]["merges"] = merges
        found.append(metadata_from_hf(written(tmp_path / name, "tokenizer.json", spec), {}))
    assert found[0]["tokenizer.ggml.merges"] == found[1]["tokenizer.ggml.merges"] == [" ".join(pair) for pair in pairs]


def test_what_the_post_processor_adds_is_added(tmp_path):
    theirs = Tokenizer.from_str(byte_level().to_str())
    theirs.post_processor = processors.Sequence(
        [
            processors.ByteLevel(),
            processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 697)]),
        ]
    )
    assert theirs.token_to_id("<|im_start|>") == 697
    metadata = metadata_from_hf(checkpoint(tmp_path, theirs), {})
    assert metadata["tokenizer.ggml.bos_token_id"] == 697
    assert metadata["tokenizer.ggml.add_bos_token"] is True
    assert metadata["tokenizer.ggml.add_eos_token"] is False
    assert load_tokenizer(metadata).encode("Hello") == theirs.encode("Hello").ids


def test_word_pieces_become_a_gguf_with_the_same_ids(tmp_path):
    theirs = word_pieces()
    settings = {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "sep", "pad", "cls", "mask")}
    metadata = metadata_from_hf(
        checkpoint(tmp_path / "hf", theirs, **settings), {"type_vocab_size": 2, "vocab_size": 500}
    )
    ours = through_gguf(metadata, tmp_path)
    for text in NASTY:
        assert ours.encode(text, add_bos=True, add_eos=True) == theirs.encode(text).ids, repr(text)
    expected = {"bos": 2, "eos": 3, "cls": 2, "seperator": 3, "unknown": 1, "padding": 0, "mask": 4}
    assert {role: metadata[f"tokenizer.ggml.{role}_token_id"] for role in expected} == expected
    assert metadata["tokenizer.ggml.token_type_count"] == 2
    assert metadata["tokenizer.ggml.tokens"][:3] == ["[PAD]", "[UNK]", "[CLS]"]
    assert "\u2581the" in metadata["tokenizer.ggml.tokens"]
    assert metadata["tokenizer.ggml.add_bos_token"] is metadata["tokenizer.ggml.add_eos_token"] is True


def test_sentencepiece_files_become_a_gguf_with_the_same_ids(tmp_path):
    model = sentence_pieces()
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    metadata = metadata_from_hf(written(tmp_path / "hf", "tokenizer.model", model), {"vocab_size": 608})
    ours = through_gguf(metadata, tmp_path)
    for text in [*NASTY, "a<sep>b" + " " * 9 + "c"]:
        assert ours.encode(text, special=False) == theirs.encode(text), repr(text)
    assert metadata["tokenizer.ggml.scores"].dtype == np.float32
    assert [metadata["tokenizer.ggml.scores"][i] for i in range(600)] == [theirs.get_score(i) for i in range(600)]
    assert metadata["tokenizer.ggml.tokens"][607] == "[PAD607]"
    assert metadata["tokenizer.ggml.bos_token_id"] == 1


def test_tokens_added_to_a_sentencepiece_model_keep_their_ids(tmp_path):
    directory = written(tmp_path, "tokenizer.model", sentence_pieces())
    written(directory, "added_tokens.json", {"<extra>": 600})
    decoder = {"601": {"content": "<|im_end|>", "special": True}, "602": {"content": "\u2581\u2581x", "special": False}}
    written(
        directory,
        "tokenizer_config.json",
        {"added_tokens_decoder": decoder, "eos_token": "<|im_end|>", "add_bos_token": True},
    )
    metadata = metadata_from_hf(directory, {})
    assert metadata["tokenizer.ggml.tokens"][600:] == ["<extra>", "<|im_end|>", "  x"]
    assert metadata["tokenizer.ggml.token_type"][600:].tolist() == [4, 3, 4]
    assert metadata["tokenizer.ggml.eos_token_id"] == 601
    assert metadata["tokenizer.ggml.add_bos_token"] is True
    assert load_tokenizer(metadata).encode("<extra><|im_end|>")[-2:] == [600, 601]


def test_a_token_that_is_there_twice_is_said(tmp_path):
    directory = written(tmp_path, "tokenizer.model", sentence_pieces())
    written(directory, "added_tokens.json", {"<extra>": 600, "[INST]": 601})
    (warning,) = tokenizer_from_hf(directory, {}).warnings
    assert "1 tokens are there twice, such as '[INST]'" in warning


def byte_fallback_tokenizer(prefix):
    """A Llama-2-like (`prefix`) or Gemma-like BPE of `tokenizers`; with merges in the order of SentencePiece scores."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=sentence_pieces(user_defined_symbols=""))
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.vocab_size())]
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = []
    for piece, _ in sorted(pieces, key=lambda entry: -entry[1]):
        if piece.startswith("<") and len(piece) > 2:
            continue
        merges += [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in ids and piece[i:] in ids]
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "\u2581")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replace]) if prefix else replace
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>", "[INST]")])
    return tokenizer


@pytest.mark.parametrize("prefix", [True, False])
def test_byte_fallback_files_become_a_gguf_with_the_same_ids(prefix, tmp_path):
    theirs = byte_fallback_tokenizer(prefix)
    metadata = metadata_from_hf(checkpoint(tmp_path / "hf", theirs, bos_token="<s>", eos_token="</s>"), {})
    ours = through_gguf(metadata, tmp_path)
    assert metadata["tokenizer.ggml.model"] == "llama"
    assert metadata["tokenizer.ggml.add_space_prefix"] is prefix
    for text in NASTY:
        assert ours.encode(text, add_bos=False) == theirs.encode(text).ids, repr(text)


def test_rows_of_the_embedding_win_over_the_config(tmp_path):
    directory = checkpoint(tmp_path, byte_level())
    assert len(metadata_from_hf(directory, {"vocab_size": 704}, rows=768)["tokenizer.ggml.tokens"]) == 768
    with pytest.raises(ConversionError, match="there are 700 tokens for 600 rows"):
        metadata_from_hf(directory, {}, rows=600)


def test_ids_come_from_config_files_where_no_token_is_named(tmp_path):
    directory = checkpoint(tmp_path, byte_level())
    written(directory, "generation_config.json", {"eos_token_id": [698, 696], "pad_token_id": 696})
    metadata = metadata_from_hf(directory, {"bos_token_id": 697})
    assert metadata["tokenizer.ggml.bos_token_id"] == 697
    assert metadata["tokenizer.ggml.eos_token_id"] == 698
    assert metadata["tokenizer.ggml.padding_token_id"] == 696
    assert metadata["tokenizer.ggml.eos_token_ids"] == [698, 696]
    assert load_tokenizer(metadata).stop_ids == {698, 696}


def test_special_tokens_map_fills_what_the_config_leaves_out(tmp_path):
    directory = checkpoint(tmp_path, byte_level(), eos_token="<|im_end|>")
    written(
        directory, "special_tokens_map.json", {"eos_token": "<|endoftext|>", "bos_token": {"content": "<|im_start|>"}}
    )
    metadata = metadata_from_hf(directory, {})
    assert (metadata["tokenizer.ggml.bos_token_id"], metadata["tokenizer.ggml.eos_token_id"]) == (697, 698)


def test_chat_templates_from_every_place(tmp_path):
    plain = checkpoint(tmp_path / "plain", byte_level(), chat_template="A")
    named = [{"name": "default", "template": "B"}, {"name": "tool_use", "template": "C"}]
    several = checkpoint(tmp_path / "several", byte_level(), chat_template=named)
    own = checkpoint(tmp_path / "own", byte_level())
    written(own, "chat_template.jinja", "D é".encode())
    (own / "additional_chat_templates").mkdir()
    written(own / "additional_chat_templates", "rag.jinja", b"E")
    old = checkpoint(tmp_path / "old", byte_level())
    written(old, "chat_template.json", {"chat_template": "F"})
    found = {
        directory.name: {k: v for k, v in metadata_from_hf(directory, {}).items() if k.startswith("tokenizer.chat")}
        for directory in (plain, several, own, old)
    }
    assert found == {
        "plain": {"tokenizer.chat_template": "A"},
        "several": {
            "tokenizer.chat_template": "B",
            "tokenizer.chat_template.tool_use": "C",
            "tokenizer.chat_templates": ["tool_use"],
        },
        "own": {
            "tokenizer.chat_template": "D é",
            "tokenizer.chat_template.rag": "E",
            "tokenizer.chat_templates": ["rag"],
        },
        "old": {"tokenizer.chat_template": "F"},
    }


def test_a_pre_tokenizer_is_known_by_what_it_does_not_how_it_is_spelled(tmp_path):
    theirs = Tokenizer.from_str(byte_level().to_str())
    theirs.pre_tokenizer = splits(
        QWEN2.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'(?i:[sdmt]|ll|ve|re))").replace("\\p{N}|", "[\\p{N}]{1}|")
    )
    assert metadata_from_hf(checkpoint(tmp_path, theirs), {})["tokenizer.ggml.pre"] == "deepseek-r1-qwen"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "no vocabulary"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": []}}, "no vocabulary"),
        ({"model": {"type": "BPE", "vocab": {"a": 90000}, "merges": []}}, "ids run to 90000 for 1 tokens"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}}, "merge 'a' is no pair of tokens"),
        ({"model": {"type": "Anagram", "vocab": {"a": 0}}}, "model of type Anagram .*is not understood by the library"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "the pre_tokenizer is not understood"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_tokenizer_json_that_makes_no_tokenizer_is_refused(change, message, tmp_path):
    spec = json.loads(byte_level().to_str()) | change
    with pytest.raises(ConversionError, match=message):
        metadata_from_hf(written(tmp_path, "tokenizer.json", spec), {})


def test_other_kinds_of_sentencepiece_models_are_refused():
    with pytest.raises(ConversionError, match="the model type is char"):
        parse_sentencepiece(sentence_pieces(model_type="char", vocab_size=300))
    with pytest.raises(ConversionError, match="white space behind words"):
        parse_sentencepiece(sentence_pieces(treat_whitespace_as_suffix=True, user_defined_symbols=""))


@pytest.mark.parametrize(
    "data", [b"", b"not a protobuf", b"\x0a\xff\xff\xff\xff\x0f", b"\xff" * 40, b"\x0a\x02\x18\x63"]
)
def test_bytes_that_are_no_sentencepiece_model_are_refused(data):
    with pytest.raises(FormatError, match=r"tokenizer\.model"):
        parse_sentencepiece(data)


@pytest.mark.parametrize("end", [1, 2, 3, 10, 1000, -1, -2, -3])
def test_a_truncated_sentencepiece_model_is_refused(end):
    with pytest.raises(FormatError, match=r"reading tokenizer\.model: byte \d+"):
        parse_sentencepiece(sentence_pieces()[:end])


def test_a_tokenizer_model_of_another_kind_gives_way_to_tokenizer_json(tmp_path):
    directory = checkpoint(tmp_path, byte_level())
    written(directory, "tokenizer.model", b"IQ== 0\nIg== 1\n")
    assert metadata_from_hf(directory, {})["tokenizer.ggml.model"] == "gpt2"


def test_a_directory_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConversionError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        metadata_from_hf(tmp_path, {})
    with pytest.raises(ConversionError, match="is no directory"):
        metadata_from_hf(tmp_path / "absent", {})
    with pytest.raises(FormatError, match=r"reading tokenizer\.json"):
        metadata_from_hf(written(tmp_path, "tokenizer.json", b"{"), {})
    with pytest.raises(FormatError, match=r"reading tokenizer\.json"):
        metadata_from_hf(written(tmp_path, "tokenizer.json", b"[" * 100_000), {})


def test_pre_tokenizers_of_digits_and_byte_level_are_recognized(tmp_path):
    theirs = Tokenizer.from_str(byte_level().to_str())
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    metadata = metadata_from_hf(checkpoint(tmp_path, theirs), {})
    assert metadata["tokenizer.ggml.pre"] == "smollm"
    ours = load_tokenizer(metadata)
    for text in NASTY:
        assert ours.encode(text) == theirs.encode(text).ids, repr(text)
