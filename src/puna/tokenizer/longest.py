"""RWKV's World vocabulary: from the left, always the longest token that the bytes of the text begin with.

A token's bytes are spelled as Python writes them between quotes: \\x00 to \\xff, \\t, \\n, \\r, \\\\ and \\'. It does
not know control tokens.
"""

import re

from puna.errors import TokenizerError
from puna.tokenizer.vocabulary import TokenType, Vocabulary

_LETTERS = {"t": b"\t", "n": b"\n", "r": b"\r"}
_ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)


class LongestTokens:
    """Encodes with a vocabulary of model rwkv."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        skipped = {*vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN, TokenType.UNUSED)}
        self._bytes = [unescaped(token) for token in vocabulary.tokens]
        self._ids = {raw: i for i, raw in enumerate(self._bytes) if i not in skipped and raw}
        lengths: dict[bytes, set[int]] = {}
        for raw in self._ids:
            lengths.setdefault(raw[:2], set()).add(len(raw))
        self._lengths = {start: sorted(found, reverse=True) for start, found in lengths.items()}
        self._unknown = vocabulary.ids.get("unk")

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`, which holds no control tokens; where it starts (`first`) makes no difference."""
        raw, ids, at = text.encode(), list[int](), 0
        while at < len(raw):
            length = self._longest(raw, at)
            ids.append(self._ids[raw[at : at + length]] if length else self._of_unknown(raw[at : at + 1]))
            at += length or 1
        return ids

    def bytes_of(self, identity: int) -> bytes:
        """Bytes of token `identity`, perhaps a part of a character."""
        return self._bytes[identity]

    def _longest(self, raw: bytes, at: int) -> int:
        """How many bytes the longest token has that is there; 0 where there is none."""
        for length in self._lengths.get(raw[at : at + 2], ()):
            if raw[at : at + length] in self._ids:
                return length
        return int(raw[at : at + 1] in self._ids)

    def _of_unknown(self, byte: bytes) -> int:
        if self._unknown is None:
            raise TokenizerError(
                f"tokenizer: the byte {byte!r} has no token, and there is no unknown token; a vocabulary with all "
                "bytes would work"
            )
        return self._unknown


def unescaped(token: str) -> bytes:
    """The bytes of a token as GGUF spells it."""
    out, at = b"", 0
    for found in _ESCAPED.finditer(token):
        digits, letter = found.groups()
        out += token[at : found.start()].encode("utf-8", "surrogateescape")
        out += bytes.fromhex(digits) if digits else _LETTERS.get(letter, letter.encode("utf-8", "surrogateescape"))
        at = found.end()
    return out + token[at:].encode("utf-8", "surrogateescape")
