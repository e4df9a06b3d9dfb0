"""Reads `tokenizer.model`, SentencePiece's protobuf, as far as GGUF needs it.

    ModelProto      1 pieces (repeated)     2 trainer_spec       3 normalizer_spec
    SentencePiece   1 piece (string)        2 score (float)      3 type (enum, 1 when absent)
    TrainerSpec     3 model_type (1 unigram, 2 bpe)   24 treat_whitespace_as_suffix   40..43 unk bos eos pad id
    NormalizerSpec  2 precompiled_charsmap  3 add_dummy_prefix   4 remove_extra_whitespaces   5 escape_whitespaces

It does not know Hugging Face's other files.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from puna.errors import ConversionError, FormatError
from puna.tokenizer.draft import Draft, plain_spaces
from puna.tokenizer.vocabulary import TokenType

_ROLES = {40: ("unk", 0), 41: ("bos", 1), 42: ("eos", 2), 43: ("pad", -1)}
_MODELS = {1: "t5", 2: "llama"}
_KINDS = {3: "word", 4: "char"}

Field = tuple[int, Any]


def parse_sentencepiece(data: bytes, name: str = "tokenizer.model") -> Draft:
    """The vocabulary in the bytes of a SentencePiece model called `name`.

    FormatError where they are no such protobuf; ConversionError for models that GGUF cannot hold.
    """
    fields = list(_fields(data))
    pieces = [dict(_fields(value)) for number, value in fields if number == 1 and isinstance(value, bytes)]
    if not pieces or any(not isinstance(piece.get(1), bytes) for piece in pieces):
        raise FormatError("reading tokenizer.model: there are no pieces in it; a SentencePiece model has some")
    trainer = _message(fields, 2)
    normalizer = _message(fields, 3)
    types = [_type(piece.get(3, 1)) for piece in pieces]
    tokens = [_text(piece[1]) for piece in pieces]
    draft = Draft(
        model=_model(trainer, normalizer),
        pre="default",
        tokens=[plain_spaces(t) if k == TokenType.USER_DEFINED else t for t, k in zip(tokens, types, strict=True)],
        types=list(types),
        scores=[struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0] for piece in pieces],
        flags={"add_space_prefix": bool(normalizer.get(3, 1))},
        ids={role: i for role, i in ((role, _signed(trainer.get(n, i))) for n, (role, i) in _ROLES.items()) if i >= 0},
    )
    if normalizer.get(4, 1):
        draft.flags["remove_extra_whitespaces"] = True
    if table := normalizer.get(2):
        draft.flags["precompiled_charsmap"] = np.frombuffer(table, np.uint8)
    draft.source = name
    _warn(draft)
    return draft


def _model(trainer: dict[int, Any], normalizer: dict[int, Any]) -> str:
    """GGUF's name for the model type."""
    kind = trainer.get(3, 1)
    if kind not in _MODELS:
        raise ConversionError(
            f"tokenizer.model: the model type is {_KINDS.get(kind, kind)}, which GGUF cannot say; unigram and bpe work"
        )
    for wrong, what in (
        (bool(trainer.get(24, 0)), "puts white space behind words"),
        (not normalizer.get(5, 1), "does not escape white space"),
    ):
        if wrong:
            raise ConversionError(f"tokenizer.model: it {what}, which GGUF cannot say; the usual rules would work")
    return _MODELS[kind]


def _warn(draft: Draft) -> None:
    if draft.model == "llama" and "precompiled_charsmap" in draft.flags:
        draft.warnings.append(
            "tokenizer.model: its bpe model normalizes text by a table of characters; Puna does so as well, llama.cpp "
            "does not, and can give other ids"
        )
    if draft.model == "t5" and TokenType.BYTE in draft.types:
        draft.warnings.append(
            "tokenizer.model: its unigram model spells unknown characters in bytes; Puna does so as well, llama.cpp "
            "takes them as unknown"
        )


def _fields(data: bytes) -> Iterator[Field]:
    """Number and value of each field: int for varints, bytes for everything else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, len(data) + 1), at)
        if size > len(data) - at:
            raise FormatError(
                f"reading tokenizer.model: byte {at}: the file ends inside a field; it is no whole protobuf"
            )
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise FormatError(f"reading tokenizer.model: byte {at}: a number does not end; it is no whole protobuf")


def _message(fields: list[Field], number: int) -> dict[int, Any]:
    found = [value for key, value in fields if key == number and isinstance(value, bytes)]
    return dict(_fields(found[-1])) if found else {}


def _type(value: Any) -> TokenType:
    try:
        return TokenType(value)
    except ValueError as error:
        raise FormatError(
            f"reading tokenizer.model: a piece has the unknown type {value!r}; types are 1 to 6"
        ) from error


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"reading tokenizer.model: piece {value[:40]!r} is not UTF-8; pieces are text") from error


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
