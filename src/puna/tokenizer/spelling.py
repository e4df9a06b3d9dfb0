"""The bytes of all tokens of a vocabulary at once, many times as fast as one by one. It knows nothing of encoding."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from puna.tokenizer.byte_pairs import LETTERS
from puna.tokenizer.pieces import SPACE
from puna.tokenizer.tokenizer import Tokenizer
from puna.tokenizer.vocabulary import BYTE_PAIRS, TokenType

_BYTES = np.full(max(map(ord, LETTERS.values())) + 2, -1, np.int16)
_BYTES[[ord(letter) for letter in LETTERS.values()]] = list(LETTERS)
_SPACED = (*BYTE_PAIRS, "llama", "t5", "bert")


def spellings(tokenizer: Tokenizer) -> list[bytes]:
    """What `Tokenizer.bytes_of` gives, for every token by its id."""
    vocabulary = tokenizer.vocabulary
    alone = set(np.flatnonzero(~np.isin(vocabulary.types, (TokenType.NORMAL, TokenType.UNUSED))).tolist())
    found: list[bytes] | None = None
    if vocabulary.model in BYTE_PAIRS and vocabulary.scheme.byte_level:
        found, odd = _of_letters(vocabulary.tokens)
        alone |= odd
    elif vocabulary.model in _SPACED:
        found = _of_text(vocabulary.tokens)
    if found is None:
        return [tokenizer.bytes_of(i) for i in range(tokenizer.vocab_size)]
    for i in alone:
        found[i] = tokenizer.bytes_of(i)
    return found


def _of_letters(tokens: Sequence[str]) -> tuple[list[bytes], set[int]]:
    """Bytes of tokens whose letters each stand for one, and the ids of those that have other letters."""
    codes = np.frombuffer("".join(tokens).encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.cumsum([len(token) for token in tokens])
    values = _BYTES[np.minimum(codes, len(_BYTES) - 1)]
    odd = np.searchsorted(ends, np.flatnonzero(values < 0), "right")
    data = values.astype(np.uint8).tobytes()
    return [data[start:end] for start, end in pairwise([0, *ends.tolist()])], set(odd.tolist())


def _of_text(tokens: Sequence[str]) -> list[bytes] | None:
    """Bytes of tokens of plain text with U+2581 for spaces; None where one has the character that tells them apart."""
    found = "\0".join(tokens).replace(SPACE, " ").encode("utf-8", "surrogateescape").split(b"\0")
    return found if len(found) == len(tokens) else None
