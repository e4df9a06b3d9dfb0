"""SentencePiece's unigram model: of all ways to cut a word into tokens, the one whose scores add up to the most.

It knows neither control tokens nor where scores come from.
"""

from math import inf

import numpy as np

from puna.errors import TokenizerError
from puna.tokenizer.normalize import normalizer
from puna.tokenizer.pieces import SPACE, ByteTokens, CachedWords, split_at_spaces, text_bytes
from puna.tokenizer.seams import Seams
from puna.tokenizer.vocabulary import TokenType, Vocabulary

_PENALTY = 10.0  # below the worst token; SentencePiece's price of an unknown character


class Unigrams:
    """Encodes with a vocabulary of model t5.

    Scores are added as float64, word by word, as `tokenizers` does; SentencePiece adds float32 over a whole text, which
    can choose otherwise among cuts that are equally good to six digits.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        if vocabulary.scores is None:
            raise TokenizerError("tokenizer: model 't5' needs 'tokenizer.ggml.scores'; a GGUF with scores would work")
        if "unk" not in vocabulary.ids:
            raise TokenizerError(
                "tokenizer: model 't5' needs 'tokenizer.ggml.unknown_token_id'; the id of <unk> would work"
            )
        tokens = vocabulary.tokens
        normal = vocabulary.types == TokenType.NORMAL
        self._vocabulary = vocabulary
        self._unknown = vocabulary.ids["unk"]
        self._unknown_score = float(vocabulary.scores[normal].min(initial=np.float32(0))) - _PENALTY
        self._ids = dict(zip(tokens, range(len(tokens)), strict=True))
        for i in np.flatnonzero(~normal & (vocabulary.types != TokenType.USER_DEFINED)).tolist():
            if self._ids.get(tokens[i]) == i:
                del self._ids[tokens[i]]
        self._scores: list[float] = vocabulary.scores.tolist()
        self._lengths = sorted(set(map(len, self._ids)) - {0})
        whole = vocabulary.of_type(TokenType.USER_DEFINED)
        self._whole = Seams({tokens[i].replace(" ", SPACE): i for i in whole})
        self._normalize = normalizer(vocabulary)
        self._byte_tokens = ByteTokens(vocabulary)
        self._split = split_at_spaces(tokens)
        self._words = CachedWords(self._word)

    def encode(self, text: str, first: bool) -> list[int]:
        """Ids of `text`, which holds no control tokens; with `first`, a space may go before it."""
        ids: list[int] = []
        for part in self._whole.split(self._normalize(text, first)):
            ids += [part] if isinstance(part, int) else self._words.ids(self._split(part))
        unknown = self._unknown
        return [i for at, i in enumerate(ids) if i != unknown or not at or ids[at - 1] != unknown]

    def bytes_of(self, identity: int) -> bytes:
        """Bytes of the normal or byte token `identity`."""
        byte = self._byte_tokens.byte_of(identity)
        return text_bytes(self._vocabulary.tokens[identity]) if byte is None else byte

    def _word(self, word: str) -> list[int]:
        starts = self._best_cut(word)
        ids: list[int] = []
        end = len(word)
        while end:
            start, identity = starts[end]
            ids += reversed(self._byte_tokens.spell(word[start:end])) if identity == self._unknown else [identity]
            end = start
        return ids[::-1]

    def _best_cut(self, word: str) -> list[tuple[int, int]]:
        """For each end, where the last token of the best cut begins and which it is."""
        ids, scores, lengths, size = self._ids, self._scores, self._lengths, len(word)
        best = [0.0] + [-inf] * size
        last = [(0, self._unknown)] * (size + 1)
        for start in range(size):
            here = best[start]
            for length in lengths:
                end = start + length
                if end > size:
                    break
                identity = ids.get(word[start:end])
                if identity is not None and here + scores[identity] > best[end]:
                    best[end] = here + scores[identity]
                    last[end] = (start, identity)
            if word[start] not in ids and here + self._unknown_score > best[start + 1]:
                best[start + 1] = here + self._unknown_score
                last[start + 1] = (start, self._unknown)
        return last
