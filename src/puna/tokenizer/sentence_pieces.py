"""SentencePiece's byte-pair model: any two neighbours join whose concatenation is a token, the best score first.

It knows neither control tokens nor the unigram model.
"""

from math import inf

from puna.errors import TokenizerError
from puna.tokenizer.merges import merge
from puna.tokenizer.normalize import normalizer
from puna.tokenizer.pieces import SPACE, ByteTokens, CachedWords, split_at_spaces, text_bytes
from puna.tokenizer.seams import Seams
from puna.tokenizer.vocabulary import TokenType, Vocabulary


class SentencePieces:
    """Encodes with a vocabulary of model llama."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        if vocabulary.scores is None:
            raise TokenizerError(
                "tokenizer: model 'llama' needs 'tokenizer.ggml.scores'; a GGUF with scores would work"
            )
        tokens = vocabulary.tokens
        self._vocabulary = vocabulary
        self._ranks: list[float] = (-vocabulary.scores).tolist()
        self._ids = dict(zip(tokens, range(len(tokens)), strict=True))
        for i in vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN, TokenType.BYTE):
            self._ids.pop(tokens[i], None)
        self._unused = frozenset(tokens[i] for i in vocabulary.of_type(TokenType.UNUSED))
        whole = {tokens[i].replace(" ", SPACE): i for i in vocabulary.of_type(TokenType.USER_DEFINED)}
        self._seams = Seams(whole, vocabulary.skip_space_after)
        self._normalize = normalizer(vocabulary)
        self._byte_tokens = ByteTokens(vocabulary)
        self._split = split_at_spaces(tokens)
        self._words = CachedWords(self._word)

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`, which holds no control tokens; with `first`, a space may go before it."""
        ids: list[int] = []
        for part in self._seams.split(self._normalize(text, first)):
            ids += [part] if isinstance(part, int) else self._words.ids(self._split(part))
        return self._join_unknown(ids)

    def bytes_of(self, identity: int) -> bytes:
        """Bytes of the normal or byte token `identity`."""
        byte = self._byte_tokens.byte_of(identity)
        return text_bytes(self._vocabulary.tokens[identity]) if byte is None else byte

    def _word(self, word: str) -> list[int]:
        ids: list[int] = []
        for piece in merge(list(word), self._rank):
            for part in self._used(piece):
                ids += self._byte_tokens.spell(part) if part not in self._ids else [self._ids[part]]
        return ids

    def _rank(self, left: str, right: str) -> float:
        identity = self._ids.get(left + right)
        return inf if identity is None else self._ranks[identity]

    def _used(self, piece: str) -> list[str]:
        # An unused token may be a step on the way to a longer one, but is itself taken apart again.
        if piece not in self._unused or len(piece) == 1:
            return [piece]
        return [
            part
            for half in merge(list(piece), lambda a, b: inf if a + b == piece else self._rank(a, b))
            for part in self._used(half)
        ]

    def _join_unknown(self, ids: list[int]) -> list[int]:
        unknown = self._vocabulary.ids.get("unk")
        if unknown is None or unknown not in ids:
            return ids
        return [i for at, i in enumerate(ids) if i != unknown or not at or ids[at - 1] != unknown]
