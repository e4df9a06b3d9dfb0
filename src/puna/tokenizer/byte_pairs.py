"""Byte-pair encoding from a list of merges: bytes written as GPT-2's printable letters, or plain text with U+2581.

It knows neither control tokens nor where a text begins.
"""

import re
import unicodedata
from math import inf

from puna.tokenizer.merges import merge
from puna.tokenizer.normalize import WHITE
from puna.tokenizer.pieces import SPACE, ByteTokens, CachedWords, split_at_spaces, text_bytes
from puna.tokenizer.pretokenize import find_split
from puna.tokenizer.vocabulary import TokenType, Vocabulary


def _letters() -> dict[int, str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


LETTERS = _letters()
"""GPT-2's printable letter of each byte."""

_BYTES = {ord(letter): byte for byte, letter in LETTERS.items()}


class BytePairs:
    """Encodes with a vocabulary of model gpt2, gemma4 or whitespace."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._scheme = vocabulary.scheme
        self._ids = dict(zip(vocabulary.tokens, range(len(vocabulary.tokens)), strict=True))
        for i in vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN):
            self._ids.pop(vocabulary.tokens[i], None)
        self._ranks: dict[str, int] | None = None
        self._words = CachedWords(self._word)
        self._byte_tokens = ByteTokens(vocabulary)
        self._split = None if self._scheme.byte_level else split_at_spaces(vocabulary.tokens)

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`, which holds no special tokens; where it starts (`first`) makes no difference."""
        if self._scheme.normalize:
            text = unicodedata.normalize(self._scheme.normalize, text)  # type: ignore[arg-type]
        if self._scheme.drops_spaces:
            lower = "".join(c.lower() for c in text) if self._vocabulary.lowercase else text
            return self._words.ids(re.findall(f"[^{WHITE}]+", lower))
        if not self._scheme.byte_level:
            text = text.replace(" ", SPACE)
        if self._scheme.prefixes:
            text = re.sub(f"(^|\n)(?=[^\n{SPACE}])", rf"\1{SPACE}", text)
        pieces = find_split(self._scheme.patterns)(text)
        if self._split:
            pieces = [word for piece in pieces for word in self._split(piece)]
        return self._words.ids(pieces)

    def bytes_of(self, identity: int) -> bytes:
        """Bytes of the normal or byte token `identity`."""
        token = self._vocabulary.tokens[identity]
        if (byte := self._byte_tokens.byte_of(identity)) is not None:
            return byte
        if not self._scheme.byte_level:
            return text_bytes(token)
        return b"".join(bytes((_BYTES[ord(letter)],)) if ord(letter) in _BYTES else letter.encode() for letter in token)

    def _word(self, word: str) -> list[int]:
        if self._scheme.byte_level:
            word = word.encode().decode("latin-1").translate(LETTERS)
        elif word.strip("\n") == "" and word in self._ids:
            return [self._ids[word]]
        if (self._scheme.whole_words or self._vocabulary.by_rank) and word in self._ids:
            return [self._ids[word]]
        ids: list[int] = []
        for piece in merge(list(word), self._rank):
            identity = self._ids.get(piece)
            if identity is not None:
                ids.append(identity)
            elif not self._scheme.byte_level:
                ids += self._byte_tokens.spell(piece)
            else:  # a merge without a token: its letters; as elsewhere, a byte without a token is dropped
                ids += [self._ids[letter] for letter in piece if letter in self._ids]
        return ids

    def _rank(self, left: str, right: str) -> float:
        by_rank = self._vocabulary.by_rank
        if self._ranks is None:
            merges = self._vocabulary.merges
            self._ranks = self._normal() if by_rank else dict(zip(merges, range(len(merges)), strict=True))
        return self._ranks.get(left + right if by_rank else f"{left} {right}", inf)

    def _normal(self) -> dict[str, int]:
        return {self._vocabulary.tokens[i]: i for i in self._vocabulary.of_type(TokenType.NORMAL)}
