"""Encodes with the tokenizer.json that a GGUF file carries whole (`tokenizer.huggingface.json`), by its own library.

It does not know what tokens mean; how they become text is read from the plain keys where those can say it.
"""

import json
from functools import cached_property
from typing import TYPE_CHECKING

from puna.errors import TokenizerError
from puna.tokenizer.library import library_errors
from puna.tokenizer.vocabulary import FULL, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library


def open_library(text: str, source: str) -> "Library":
    """The library's tokenizer of a tokenizer.json's `text`, without cutting or padding; errors name `source`."""
    from tokenizers import Tokenizer as Library

    with library_errors(f"tokenizer: {source} is not understood", "a newer one may: pip install -U tokenizers"):
        tokenizer = Library.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def library_ids(library: "Library", text: str) -> list[int]:
    """The library's ids of `text`, without what goes around it; TokenizerError where it cannot encode."""
    with library_errors(f"encoding: {text[:40]!r} cannot be encoded", "a whole vocabulary would work"):
        return list(library.encode(text, add_special_tokens=False).ids)


class FullTokenizer:
    """The whole road from text to ids, and what the post-processor puts around them (`begin`, `end`)."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str, parse: bool) -> list[int]:
        """Ids of `text`; with `parse`, special tokens spelled in it become their ids."""
        return library_ids(self._parsing if parse else self._plain, text)

    def bytes_of(self, identity: int) -> bytes:
        """Bytes that token `identity` adds to a text, as the library's decoder has it."""
        anchor = self._anchor
        alone = self._decoded(anchor)
        if type(self._parsing.decoder).__name__ == "BPEDecoder":  # its words end with a mark
            return self._decoded(identity, anchor).removesuffix(alone).encode()
        return self._decoded(anchor, identity).removeprefix(alone).encode()

    @cached_property
    def ends(self) -> tuple[list[int], list[int]]:
        """The ids before and after a text."""
        found = self._parsing.encode("a", add_special_tokens=True)
        ids, marks = list(found.ids), list(found.special_tokens_mask)
        if 0 not in marks:
            return [], []
        last = len(marks) - marks[::-1].index(0)
        return ids[: marks.index(0)], ids[last:]

    @cached_property
    def _parsing(self) -> "Library":
        return open_library(self._text(), f"'{FULL}'")

    @cached_property
    def _plain(self) -> "Library":
        library = open_library(self._text(), f"'{FULL}'")
        library.encode_special_tokens = True
        return library

    @cached_property
    def _anchor(self) -> int:
        return (library_ids(self._parsing, "a") or [0])[-1]

    def _decoded(self, *ids: int) -> str:
        return str(self._parsing.decode(list(ids), skip_special_tokens=False))

    def _text(self) -> str:
        if self._vocabulary.full is None:
            raise TokenizerError(f"tokenizer: the metadata has no '{FULL}'; a GGUF with one would work")
        return self._vocabulary.full()


def full_text(spec: dict[str, object]) -> str:
    """A tokenizer.json as it is kept: without spaces, without limits on length."""
    return json.dumps({**spec, "truncation": None, "padding": None}, ensure_ascii=False, separators=(",", ":"))
