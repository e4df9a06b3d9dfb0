"""`tokenizer.*` metadata from the files of a Hugging Face checkpoint: `tokenizer_from_hf(directory, config)`.

    the vocabulary, the first there is: rwkv_vocab_*.txt, tokenizer.model or another SentencePiece model (of a unigram
    model, a tokenizer.json beside it), tokenizer.json, tekken.json, a tiktoken file, vocab.json with merges.txt,
    vocab.txt
    what goes with it: added_tokens.json, tokenizer_config.json, special_tokens_map.json, generation_config.json,
    chat_template.{jinja,json}, additional_chat_templates/

It does not know weights; the number of their embedding rows is given.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from puna.errors import ConversionError, FormatError
from puna.tokenizer.chat_templates import chat_templates
from puna.tokenizer.draft import Draft, added_type, plain_spaces
from puna.tokenizer.kept import keep_full
from puna.tokenizer.roles import set_ends, set_ids
from puna.tokenizer.sources import read_json, read_vocabulary_files
from puna.tokenizer.vocabulary import PREFIX, TokenType
from puna.tokenizer.world import TEMPLATE, escaped

Files = Mapping[str, Path]

_log = logging.getLogger("puna")

FIXED = {"": (TokenType.UNKNOWN, TokenType.BYTE), "rwkv": (TokenType.NORMAL,)}
"""Types of tokens that other files do not change, by model."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """A checkpoint's tokenizer as GGUF keys; what a user should know of it; and where each key's value came from."""

    metadata: dict[str, Any]
    warnings: tuple[str, ...]
    origins: Mapping[str, str]


def metadata_from_hf(
    source: str | PathLike[str] | Files, config: Mapping[str, Any], *, rows: int | None = None
) -> dict[str, Any]:
    """The metadata of `tokenizer_from_hf`, whose warnings are logged."""
    extraction = tokenizer_from_hf(source, config, rows=rows)
    for warning in extraction.warnings:
        _log.warning("%s", warning)
    return extraction.metadata


def tokenizer_from_hf(
    source: str | PathLike[str] | Files, config: Mapping[str, Any], *, rows: int | None = None
) -> Extraction:
    """The `tokenizer.*` keys of a checkpoint, ready to be written, with warnings and origins.

    `source` is its directory, or a mapping of file names to paths; `config` its parsed config.json. The vocabulary is
    padded to `rows`, the embedding's row count (else config's vocab_size). `token_type` is an int32 array, `scores`
    float32, `precompiled_charsmap` uint8. A tokenizer.json that the keys cannot say, or with which they do not agree on
    `check.PROBES`, is kept whole as `tokenizer.huggingface.json`, with a warning. ConversionError where there is no
    vocabulary that GGUF can hold; FormatError where files are damaged.
    """
    files = source if isinstance(source, Mapping) else _files(Path(source))
    text_config = config.get("text_config") or config
    settings = _settings(files)
    draft, spec = read_vocabulary_files(files, str(text_config.get("model_type", "")), settings)
    _add_listed(draft, files, settings)
    _size(draft, rows or text_config.get("vocab_size") or config.get("vocab_size"))
    generation = read_json(files, "generation_config.json")
    nested = {"config.json: text_config": text_config} if text_config is not config else {}
    set_ids(draft, settings, {"config.json": config, **nested, "generation_config.json": generation})
    set_ends(draft, settings, generation)
    if draft.model == "bert" or config.get("type_vocab_size") is not None:
        draft.flags["token_type_count"] = count = config.get("type_vocab_size", 1)
        if type(count) is not int or not 0 <= count < 2**31:
            raise FormatError(
                f"reading config.json: 'type_vocab_size' is {count!r}; a number of token types would work"
            )
        draft.origins["token_type_count"] = "config.json: type_vocab_size"
    if twice := draft.twice():
        draft.warnings.append(
            f"{draft.source}: {len(twice)} tokens are there twice, such as {twice[0]!r}; newer versions of llama.cpp "
            "refuse such a vocabulary"
        )
    metadata = draft.to_metadata()
    origins = {key: draft.origins.get(key.removeprefix(PREFIX), draft.source) for key in metadata}
    metadata |= keep_full(draft, metadata, spec)
    origins |= dict.fromkeys(metadata.keys() - origins.keys(), draft.source)
    templates, places = chat_templates(files, settings, read_json(files, "chat_template.json"))
    if draft.model == "rwkv" and not templates:
        templates, places = {"tokenizer.chat_template": TEMPLATE}, {"tokenizer.chat_template": "World models"}
    return Extraction(metadata | templates, tuple(draft.warnings), origins | places)


def _files(directory: Path) -> Files:
    if not directory.is_dir():
        raise ConversionError(f"tokenizer: {directory} is no directory; a checkpoint's directory would work")
    return {
        path.relative_to(directory).as_posix(): path for path in (*directory.glob("*"), *directory.glob("*/*.jinja"))
    }


def _settings(files: Files) -> dict[str, Any]:
    """tokenizer_config.json over special_tokens_map.json; tokens given as objects become their text."""
    merged = {**read_json(files, "special_tokens_map.json"), **read_json(files, "tokenizer_config.json")}
    return {key: value["content"] if _is_token(value) else value for key, value in merged.items()}


def _is_token(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("content"), str)


def _add_listed(draft: Draft, files: Files, settings: Mapping[str, Any]) -> None:
    """Tokens added after training, as far as they are not there yet: what a tokenizer.model does not hold itself."""
    listed = {int(i): {"content": str(text)} for text, i in read_json(files, "added_tokens.json").items()}
    listed |= {int(i): token for i, token in (settings.get("added_tokens_decoder") or {}).items()}
    for identity, token in sorted(listed.items()):
        text = str(token["content"])
        kind = added_type(text, bool(token.get("special")))
        fixed = identity < len(draft.types) and draft.types[identity] in FIXED.get(draft.model, FIXED[""])
        if fixed or (draft.scores is None and identity < len(draft.tokens) and draft.tokens[identity] == text):
            continue
        if draft.model == "rwkv" and draft.find(escaped(text.encode())) is not None:
            continue  # some files make an end of what is a token already, under an id that no model knows
        inside = draft.model in ("llama", "t5") and kind != TokenType.CONTROL
        draft.place(identity, plain_spaces(text) if inside else text, kind)
        flags = {name: bool(token.get(name)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
        draft.listed.append({"id": identity, **flags, "special": kind == TokenType.CONTROL, "content": text})


def _size(draft: Draft, rows: int | None) -> None:
    if rows is None:
        return
    if rows < len(draft.tokens):
        surplus = [i for i in range(rows, len(draft.tokens)) if draft.types[i] == TokenType.NORMAL]
        if surplus:
            raise ConversionError(
                f"tokenizer: there are {len(draft.tokens)} tokens for {rows} rows of the embedding; "
                "the tokenizer that belongs to these weights would work"
            )
        for values in (draft.tokens, draft.types, draft.scores or []):
            del values[rows:]
    draft.pad(rows)
