"""WordPiece: BERT's words, each spelled with the longest tokens from the left.

The vocabulary has llama.cpp's form: a token that starts a word begins with U+2581, one that continues it has no mark.
It does not know control tokens.
"""

import re
from functools import cached_property
from typing import TYPE_CHECKING

from puna.errors import TokenizerError
from puna.tokenizer.pieces import SPACE, CachedWords, text_bytes
from puna.tokenizer.vocabulary import TokenType, Vocabulary

if TYPE_CHECKING:
    from tokenizers.normalizers import BertNormalizer

_LONGEST_WORD = 100  # letters; BERT takes longer words as unknown


class WordPieces:
    """Encodes with a vocabulary of model bert."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        if "unk" not in vocabulary.ids:
            raise TokenizerError(
                "tokenizer: model 'bert' needs 'tokenizer.ggml.unknown_token_id'; the id of [UNK] would work"
            )
        self._vocabulary = vocabulary
        self._unknown = vocabulary.ids["unk"]
        self._ids = dict(zip(vocabulary.tokens, range(len(vocabulary.tokens)), strict=True))
        for i in vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN):
            self._ids.pop(vocabulary.tokens[i], None)
        self._longest = max(map(len, self._ids), default=0)
        self._words = CachedWords(self._word)

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`, which holds no control tokens; where it starts (`first`) makes no difference."""
        from tokenizers.pre_tokenizers import BertPreTokenizer

        words = BertPreTokenizer().pre_tokenize_str(self._normalizer.normalize_str(text))
        return self._words.ids(word for word, _ in words)

    def bytes_of(self, identity: int) -> bytes:
        """Bytes of token `identity`, with the space that sets a word apart."""
        return text_bytes(self._vocabulary.tokens[identity])

    @cached_property
    def _normalizer(self) -> "BertNormalizer":
        from tokenizers.normalizers import BertNormalizer

        lowercase, strip_accents = self._vocabulary.lowercase, self._vocabulary.strip_accents
        if lowercase is None:  # files from before these keys: a vocabulary without capitals is of lower-case text
            lowercase = not any(re.search("[A-Z]", token) and token[1:2] != "[" for token in self._ids)
        if strip_accents is None:  # and one that cannot spell a bare letter was not made from stripped text
            strip_accents = lowercase and SPACE + "e" in self._ids
        return BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)

    def _word(self, word: str) -> list[int]:
        if len(word) > _LONGEST_WORD:
            return [self._unknown]
        ids: list[int] = []
        rest = SPACE + word
        while rest:
            end = min(len(rest), self._longest)
            while end and rest[:end] not in self._ids:
                end -= 1
            if not end or (ids and rest[0] == SPACE):  # only the first token may start with the mark
                return [self._unknown]
            ids.append(self._ids[rest[:end]])
            rest = rest[end:]
        return ids


_CLEANED = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"))
_CLEANED_ENDINGS = ((" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))


def clean(text: str) -> str:
    """Closes the gaps that splitting off punctuation left in decoded text."""
    for gap, closed in (*_CLEANED, *_CLEANED_ENDINGS):
        text = text.replace(gap, closed)
    return text
