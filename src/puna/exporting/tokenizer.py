"""A tokenizer as tokenizer.json has it, from what a GGUF file says; compared with Puna's own before it is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from puna.errors import ConversionError
from puna.tokenizer import load_tokenizer
from puna.tokenizer.check import differences_from_json
from puna.tokenizer.pieces import SPACE
from puna.tokenizer.vocabulary import TokenType, Vocabulary

TEMPLATE = "tokenizer.chat_template"


def tokenizer_files(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The texts of tokenizer.json and tokenizer_config.json, by name.

    ConversionError for a model of tokens that has no such form, or that would give other ids in it.
    """
    tokenizer = load_tokenizer(metadata)
    vocabulary = tokenizer.vocabulary
    if vocabulary.full:
        text = vocabulary.full()
    else:
        spec = _spec(vocabulary)
        if found := differences_from_json(tokenizer, spec):
            raise ConversionError(
                f"exporting: as a tokenizer.json, the tokenizer gives other ids for {found[0].text!r}"
            )
        text = json.dumps(spec, ensure_ascii=False)
    return {"tokenizer.json": text, "tokenizer_config.json": json.dumps(_config(vocabulary, metadata), indent=2)}


def _spec(vocabulary: Vocabulary) -> dict[str, Any]:
    if vocabulary.model == "gpt2" and vocabulary.scheme.byte_level:
        parts = _of_bytes(vocabulary)
    elif vocabulary.model == "llama" and vocabulary.scores is not None:
        parts = _of_pieces(vocabulary)
    else:
        raise ConversionError(
            f"exporting: a tokenizer of model '{vocabulary.model}' has no tokenizer.json here; gpt2 and llama have one"
        )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocabulary),
        "post_processor": _around(vocabulary),
        **parts,
    }


def _of_bytes(vocabulary: Vocabulary) -> dict[str, Any]:
    """Byte pairs in GPT-2's letters."""
    scheme = vocabulary.scheme
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in scheme.patterns
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "normalizer": {"type": scheme.normalize} if scheme.normalize else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, level]},
        "decoder": level,
        "model": _pairs(vocabulary, list(vocabulary.merges), ignore_merges=scheme.whole_words),
    }


def _of_pieces(vocabulary: Vocabulary) -> dict[str, Any]:
    """SentencePiece's byte pairs, whose scores say which go first."""
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    joined = []
    assert vocabulary.scores is not None
    for i in vocabulary.of_type(TokenType.NORMAL, TokenType.USER_DEFINED):
        piece = vocabulary.tokens[i]
        cuts = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        found = sorted((ids[a], ids[b]) for a, b in cuts if a in ids and b in ids)
        joined += [(-float(vocabulary.scores[i]), i, a, b) for a, b in found]
    merges = [f"{vocabulary.tokens[a]} {vocabulary.tokens[b]}" for _, _, a, b in sorted(joined, key=lambda m: m[:2])]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prefix = [{"type": "Prepend", "prepend": SPACE}] if vocabulary.add_space_prefix else []
    back = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    unknown = vocabulary.ids.get("unk")
    more = {
        "byte_fallback": True,
        "fuse_unk": True,
        "unk_token": None if unknown is None else vocabulary.tokens[unknown],
    }
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, spaces]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [*back, *strip]},
        "model": _pairs(vocabulary, merges, **more),
    }


def _pairs(vocabulary: Vocabulary, merges: list[str], **more: Any) -> dict[str, Any]:
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    pairs = [_pair(merge) for merge in merges]
    return {"type": "BPE", "dropout": None, "vocab": ids, "merges": [[a, b] for a, b in pairs], **more}


def _pair(merge: str) -> tuple[str, str]:
    at = merge.index(" ", 1)
    return merge[:at], merge[at + 1 :]


def _added(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Tokens that are found in texts as they are."""
    control = {*vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN)}
    found = vocabulary.of_type(TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    return [
        {
            "id": i,
            "content": vocabulary.tokens[i],
            "single_word": False,
            "lstrip": i in vocabulary.skip_space_before,
            "rstrip": i in vocabulary.skip_space_after,
            "normalized": False,
            "special": i in control,
        }
        for i in found
    ]


def _around(vocabulary: Vocabulary) -> dict[str, Any] | None:
    """What comes before and behind a text."""
    begin = [vocabulary.ids["bos"]] if vocabulary.add_bos and "bos" in vocabulary.ids else []
    end = [vocabulary.ids["eos"]] if vocabulary.add_eos and "eos" in vocabulary.ids else []
    if not begin + end:
        return None
    names = {i: vocabulary.tokens[i] for i in begin + end}

    def sequence(name: str, kind: int) -> list[dict[str, Any]]:
        around = [[{"SpecialToken": {"id": names[i], "type_id": kind}} for i in some] for some in (begin, end)]
        return [*around[0], {"Sequence": {"id": name, "type_id": kind}}, *around[1]]

    special = {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in names.items()}
    single = sequence("A", 0)
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *sequence("B", 1)],
        "special_tokens": special,
    }


def _config(vocabulary: Vocabulary, metadata: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        f"{role}_token": vocabulary.tokens[i]
        for role, i in vocabulary.ids.items()
        if role in ("bos", "eos", "unk", "pad")
    }
    template = metadata.get(TEMPLATE)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "clean_up_tokenization_spaces": False,
        **({"chat_template": template} if template else {}),
    }
