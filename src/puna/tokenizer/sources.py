"""Finds a checkpoint's vocabulary among its files, and reads it, whatever its kind.

It does not know what config files add to it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from puna.errors import ConversionError, FormatError
from puna.tokenizer.draft import Draft
from puna.tokenizer.older import from_merges, from_words
from puna.tokenizer.ranks import library_form, looks_like_tiktoken, parse_tekken, parse_tiktoken
from puna.tokenizer.sentencepiece_model import parse_sentencepiece
from puna.tokenizer.tokenizer_json import complete, parse_tokenizer_json
from puna.tokenizer.vocabulary import TokenType
from puna.tokenizer.world import FILE, parse_world

Files = Mapping[str, Path]
Spec = dict[str, Any]

SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "sentencepiece.model")
_FAIRSEQ = "sentencepiece.bpe.model"  # whose ids are one higher, behind <s> <pad> </s> <unk>


def read_vocabulary_files(files: Files, kind: str, settings: Mapping[str, Any]) -> tuple[Draft, Spec | None]:
    """The vocabulary, and the tokenizer.json that it must agree with, if that is what it was read from.

    `kind` is the config's model_type, `settings` its tokenizer_config.json. ConversionError where there is none.
    """
    if world := next((name for name in files if FILE.fullmatch(name)), None):
        return parse_world(read_text(files[world]), world, settings), None
    draft, problem = _sentencepiece(files, settings)
    if draft:
        return draft, None
    if "tokenizer.json" in files:
        spec = read_json(files, "tokenizer.json")
        return _parsed(spec, "tokenizer.json"), spec
    if "tekken.json" in files:
        tekken = read_json(files, "tekken.json")
        draft = parse_tekken(tekken)
        return draft, library_form(draft, tekken["config"]["pattern"]) if draft.problems else None
    for name in files:
        if (name.endswith(".tiktoken") or name in ("tokenizer.model", "tiktoken.model")) and "/" not in name:
            data = files[name].read_bytes()
            if name.endswith(".tiktoken") or looks_like_tiktoken(data):
                return parse_tiktoken(data, name), None
    if older := _older(files, kind, settings):
        source, spec = older
        draft = _parsed(spec, source)
        draft.source = source
        return draft, spec
    if problem:
        raise problem
    raise ConversionError(
        "tokenizer: there is neither tokenizer.json nor tokenizer.model, tekken.json, a .tiktoken file, vocab.json "
        "with merges.txt, vocab.txt or rwkv_vocab_*.txt; saving the tokenizer again with a current transformers "
        "(save_pretrained) would write one"
    )


def read_json(files: Files, name: str) -> dict[str, Any]:
    """The object in the JSON file `name`, empty where there is no such file; FormatError where it is none."""
    if name not in files:
        return {}
    try:
        value = json.loads(files[name].read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"reading {name}: {error}; a JSON file would work") from error
    if not isinstance(value, dict):
        raise FormatError(f"reading {name}: it holds a {type(value).__name__}; a JSON object would work")
    return value


def read_text(path: Path) -> str:
    """A file's text; FormatError where it is not UTF-8."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"reading {path.name}: byte {error.start} is not UTF-8; fetch it again") from error


def _parsed(spec: Spec, source: str) -> Draft:
    try:
        return parse_tokenizer_json(spec)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"reading {source}: a part is missing or of another kind ({type(error).__name__}: {error}); one that the "
            "library tokenizers reads would work"
        ) from error


def _sentencepiece(files: Files, settings: Mapping[str, Any]) -> tuple[Draft | None, FormatError | None]:
    """What a SentencePiece model says; of a unigram model only where there is no tokenizer.json."""
    name = next((name for name in SENTENCEPIECE if name in files), None)
    if name is None:
        return None, None
    try:
        draft = parse_sentencepiece(files[name].read_bytes(), name)
    except FormatError as error:  # some checkpoints keep a file of another kind under this name
        return None, error
    if draft.model == "t5" and "tokenizer.json" in files:
        return None, None
    if name == _FAIRSEQ:
        _as_fairseq(draft)
    if draft.model == "t5" and "tokenizer.json" not in files:
        draft.flags |= {"add_bos_token": name == _FAIRSEQ, "add_eos_token": True}
    complete(draft, read_json(files, "tokenizer.json"))
    return draft, None


def _as_fairseq(draft: Draft) -> None:
    """Puts the pieces where XLM-R and its kin have them: <s> <pad> </s> <unk>, the pieces from the third, <mask>."""
    control = [TokenType.CONTROL] * 3 + [TokenType.UNKNOWN]
    draft.tokens = ["<s>", "<pad>", "</s>", "<unk>", *draft.tokens[3:]]
    draft.types = [*control, *draft.types[3:]]
    draft.scores = [0.0] * 4 + (draft.scores or [])[3:]
    draft.place(len(draft.tokens), "<mask>", TokenType.CONTROL)
    draft.ids = {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "sep": 2, "cls": 0, "mask": len(draft.tokens) - 1}
    draft.flags["lstrip_token_ids"] = [len(draft.tokens) - 1]


def _older(files: Files, kind: str, settings: Mapping[str, Any]) -> tuple[str, Spec] | None:
    if "vocab.json" in files and "merges.txt" in files:
        merges = read_text(files["merges.txt"])
        return "vocab.json, merges.txt", from_merges(read_json(files, "vocab.json"), merges, settings, kind)
    if "vocab.txt" in files:
        words = read_text(files["vocab.txt"]).split("\n")
        return "vocab.txt", from_words([w.rstrip("\r") for w in (words[:-1] if words[-1] == "" else words)], settings)
    return None
