"""`tokenizer.*` metadata from the files of a Hugging Face checkpoint: `metadata_from_hf(directory, config)`.

    tokenizer.model (SentencePiece) before tokenizer.json; added_tokens.json, tokenizer_config.json,
    special_tokens_map.json, generation_config.json, chat_template.{jinja,json}, additional_chat_templates/

It does not know weights; the number of their embedding rows is given.
"""

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from puna.errors import ConversionError, FormatError
from puna.tokenizer.draft import Draft, added_type, plain_spaces
from puna.tokenizer.sentencepiece_model import parse_sentencepiece
from puna.tokenizer.tokenizer_json import complete, parse_tokenizer_json
from puna.tokenizer.vocabulary import PREFIX, TokenType

Files = Mapping[str, Path]

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def metadata_from_hf(
    source: str | PathLike[str] | Files, config: Mapping[str, Any], *, rows: int | None = None
) -> dict[str, Any]:
    """The `tokenizer.ggml.*` and `tokenizer.chat_template*` keys of a checkpoint, ready to be written.

    `source` is its directory, or a mapping of file names to paths; `config` its parsed config.json. The vocabulary is
    padded to `rows`, the embedding's row count (else config's vocab_size). `token_type` is an int32 array, `scores`
    float32. ConversionError where GGUF cannot say what the files say; FormatError where they are damaged.
    """
    files = source if isinstance(source, Mapping) else _files(Path(source))
    text_config = config.get("text_config") or config
    settings = _settings(files)
    draft = _vocabulary(files)
    _add_listed(draft, files, settings)
    _size(draft, rows or text_config.get("vocab_size") or config.get("vocab_size"))
    _set_ids(draft, settings, [config, text_config, _json(files, "generation_config.json")])
    for role in ("bos", "eos"):
        if isinstance(wanted := settings.get(f"add_{role}_token"), bool) and role in draft.ids:
            draft.flags.setdefault(f"add_{role}_token", wanted)
    if draft.model == "bert":
        draft.flags["token_type_count"] = int(config.get("type_vocab_size", 1))
    return draft.to_metadata() | _stops(draft, files) | _templates(files, settings)


def _files(directory: Path) -> Files:
    if not directory.is_dir():
        raise ConversionError(f"tokenizer: {directory} is no directory; a checkpoint's directory would work")
    return {
        path.relative_to(directory).as_posix(): path for path in (*directory.glob("*"), *directory.glob("*/*.jinja"))
    }


def _vocabulary(files: Files) -> Draft:
    problem: FormatError | None = None
    if "tokenizer.model" in files:
        try:
            draft = parse_sentencepiece(files["tokenizer.model"].read_bytes())
        except FormatError as error:  # some checkpoints keep a file of another kind under this name
            problem = error
        else:
            complete(draft, _json(files, "tokenizer.json"))
            return draft
    if "tokenizer.json" in files:
        return parse_tokenizer_json(_json(files, "tokenizer.json"))
    if problem:
        raise problem
    raise ConversionError(
        "tokenizer: there is neither tokenizer.json nor tokenizer.model; saving the tokenizer again with a current "
        "transformers (save_pretrained) would write one"
    )


def _settings(files: Files) -> dict[str, Any]:
    """tokenizer_config.json over special_tokens_map.json; tokens given as objects become their text."""
    merged = {**_json(files, "special_tokens_map.json"), **_json(files, "tokenizer_config.json")}
    return {key: value["content"] if _is_token(value) else value for key, value in merged.items()}


def _is_token(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("content"), str)


def _add_listed(draft: Draft, files: Files, settings: Mapping[str, Any]) -> None:
    """Tokens added after training: what a tokenizer.model does not hold itself."""
    listed = {int(i): (text, False) for text, i in _json(files, "added_tokens.json").items()}
    for i, token in (settings.get("added_tokens_decoder") or {}).items():
        listed[int(i)] = (str(token["content"]), bool(token.get("special")))
    for identity, (text, special) in sorted(listed.items()):
        kind = added_type(text, special)
        fixed = identity < len(draft.types) and draft.types[identity] in (TokenType.UNKNOWN, TokenType.BYTE)
        if fixed or (draft.scores is None and identity < len(draft.tokens) and draft.tokens[identity] == text):
            continue
        draft.place(
            identity, plain_spaces(text) if draft.model == "llama" and kind != TokenType.CONTROL else text, kind
        )


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


def _set_ids(draft: Draft, settings: Mapping[str, Any], configs: list[Mapping[str, Any]]) -> None:
    """Ids by role: from the token's text, else from what was read already, else from a config file."""
    named = dict(settings)
    if draft.model == "bert":
        named["bos_token"] = named.get("bos_token") or named.get("cls_token")
        named["eos_token"] = named.get("eos_token") or named.get("sep_token")
    for role in _ROLES:
        token = named.get(f"{role}_token")
        identity = draft.find(token) if isinstance(token, str) else None
        if identity is None and role not in draft.ids:
            identity = next((i for config in configs for i in _id_list(config.get(f"{role}_token_id"))), None)
        if identity is not None and identity < len(draft.tokens):
            draft.ids[role] = identity
    for role in [role for role, identity in draft.ids.items() if identity >= len(draft.tokens)]:
        del draft.ids[role]


def _id_list(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [i for i in values if isinstance(i, int) and not isinstance(i, bool) and i >= 0]


def _stops(draft: Draft, files: Files) -> dict[str, Any]:
    """Every end token of generation_config.json where it names more than one."""
    ends = _id_list(_json(files, "generation_config.json").get("eos_token_id"))
    ends = [i for i in ends if i < len(draft.tokens)]
    return {PREFIX + "eos_token_ids": ends} if len(ends) > 1 else {}


def _templates(files: Files, settings: Mapping[str, Any]) -> dict[str, Any]:
    named = dict(_named_templates(files, settings))
    keys = {"tokenizer.chat_template" + ("" if name == "default" else f".{name}"): text for name, text in named.items()}
    others = sorted(named.keys() - {"default"})
    return keys | ({"tokenizer.chat_templates": others} if others else {})


def _named_templates(files: Files, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for source in (settings.get("chat_template"), _json(files, "chat_template.json").get("chat_template")):
        if isinstance(source, str):
            yield "default", source
        for entry in source if isinstance(source, list) else ():
            yield "".join(c if c.isascii() and c.isalnum() else "_" for c in entry["name"]), entry["template"]
    for name, path in sorted(files.items()):
        if name == "chat_template.jinja":
            yield "default", path.read_text("utf-8")
        elif name.startswith("additional_chat_templates/"):
            yield path.stem, path.read_text("utf-8")


def _json(files: Files, name: str) -> dict[str, Any]:
    if name not in files:
        return {}
    try:
        value = json.loads(files[name].read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"reading {name}: {error}; a JSON file would work") from error
    if not isinstance(value, dict):
        raise FormatError(f"reading {name}: it holds a {type(value).__name__}; a JSON object would work")
    return value
