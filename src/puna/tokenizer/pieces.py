"""What the encoders share: remembered words, byte tokens `<0xXX>`, and the U+2581 that stands for a space.

It does not know how a word becomes tokens.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from puna.errors import TokenizerError
from puna.tokenizer.vocabulary import TokenType, Vocabulary

SPACE = "\u2581"

_REMEMBERED = 1 << 16  # words; cleared when full
_LONGEST = 64  # characters of a word worth remembering


class Encoder(Protocol):
    """One kind of vocabulary: plain text to ids, and normal tokens to bytes."""

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`, which holds no control tokens; `first` where text begins or a control token came before."""
        ...

    def bytes_of(self, identity: int) -> bytes:
        """Bytes of a token that is neither control nor user-defined."""
        ...


class CachedWords:
    """Ids of words, each encoded once."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self._encode = encode
        self._known: dict[str, list[int]] = {}

    def ids(self, words: Iterable[str]) -> list[int]:
        """Ids of `words`, one after another."""
        known, out = self._known, []
        for word in words:
            found = known.get(word)
            if found is None:
                found = self._encode(word)
                if len(word) <= _LONGEST:
                    known[word] = found
            out += found
        if len(known) > _REMEMBERED:
            self._known = {}
        return out


class ByteTokens:
    """The tokens `<0x00>` to `<0xFF>` of a vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._bytes: dict[int, bytes] = {}
        for i in vocabulary.of_type(TokenType.BYTE):
            if not re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", vocabulary.tokens[i]):
                raise TokenizerError(
                    f"tokenizer: token {i} is a byte by type and {vocabulary.tokens[i]!r} by name; <0xXX> is a byte"
                )
            self._bytes[i] = bytes((int(vocabulary.tokens[i][3:5], 16),))
        self._ids = {byte[0]: i for i, byte in self._bytes.items()}
        self._unknown = vocabulary.ids.get("unk")

    def byte_of(self, identity: int) -> bytes | None:
        """The byte that token `identity` stands for; None where it is no byte token."""
        return self._bytes.get(identity)

    def spell(self, text: str) -> list[int]:
        """The byte tokens of `text`; the unknown token where the vocabulary lacks one of them."""
        ids = [self._ids.get(byte) for byte in text.encode()]
        if None in ids:
            if self._unknown is None:
                raise TokenizerError(
                    f"tokenizer: {text!r} has no token, and the vocabulary has neither its bytes nor an unknown token"
                )
            return [self._unknown]
        return [i for i in ids if i is not None]


def text_bytes(token: str) -> bytes:
    """UTF-8 of a token whose U+2581 are spaces."""
    return token.replace(SPACE, " ").encode("utf-8", "surrogateescape")


def split_at_spaces(tokens: Sequence[str]) -> Callable[[str], list[str]]:
    """A function that cuts text before U+2581 where no token reaches across, so that each part merges by itself."""
    across = set(re.findall(f"(.){SPACE}", "\n".join(tokens)))
    kept = "".join(map(re.escape, sorted(across | {SPACE})))
    return re.compile(f"(?<=[^{kept}])(?={SPACE})").split
