"""Texts that a model only reads: vectors of them, and scores of pairs. First their tokens, then what comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from puna.embedding import Embedding, Encoded, encode_texts
from puna.errors import PromptTooLong, RequestError
from puna.reranking import Pairs, answers, chance_of_yes, pair, question, scores_of

if TYPE_CHECKING:
    from puna.runtime import Runtime
    from puna.tokenizer import Tokenizer

F32 = NDArray[np.float32]
TOGETHER = 64
"""Prompts that a decoder judges at once: as many rows of a vocabulary are in memory."""


class Encoding:
    """Embeds texts and scores pairs of them with one model; arguments and errors are as of puna.Model's methods."""

    def __init__(self, runtime: Runtime, tokenizer: Tokenizer) -> None:
        self._runtime = runtime
        self._tokenizer = tokenizer

    @property
    def said(self) -> Embedding:
        """What the model's file says of embeddings."""
        return self._runtime.embedding

    def tokens(
        self,
        texts: str | Sequence[str | Sequence[int]],
        truncate: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        room: int | None = None,
    ) -> Encoded:
        """The token ids of texts that are to be embedded, with their prompt; at most `room` of each."""
        self._runtime.check_reads_nothing("embed")
        if self._runtime.ranks:
            raise RequestError("embed: this model has a classifier that scores pairs of texts; use rerank()")
        checked, said, most = self._runtime.checked, self.said, self._runtime.hparams.context_length
        given = [texts] if isinstance(texts, str) else [t if isinstance(t, str) else checked(t) for t in texts]
        room = min(filter(None, (self._runtime.context_length, said.max_length, room)))
        encoded = encode_texts(said, self._tokenizer, given, prompt_name, prompt, room if truncate else 0)
        if long := [ids for ids in encoded.tokens if len(ids) > room]:
            raise PromptTooLong(len(long[0]), room, said.max_length or most, truncate=True)
        return encoded

    def vectors(
        self,
        given: Encoded,
        dimensions: int | None = None,
        normalize: bool | None = None,
        adapters: Mapping[str, float] = MappingProxyType({}),
    ) -> F32:
        """The vectors of token ids, (texts, dimensions)."""
        embedder = self._runtime.embedder_with(adapters)
        if dimensions is not None and not 0 < dimensions <= embedder.width:
            raise RequestError(f"embed: dimensions is {dimensions}; this model gives 1 to {embedder.width}")
        vectors = embedder.embed(given.tokens, skips=given.skips)[:, :dimensions]
        if not (self.said.normalize if normalize is None else normalize):
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)

    def pairs(self, query: str, documents: Sequence[str], instruction: str, truncate: bool = False) -> Pairs:
        """The token ids of a query with each document, as the model reads them."""
        if isinstance(documents, str):
            raise RequestError("rerank: documents is a text; a list of texts would work")
        runtime, room = self._runtime, self._runtime.context_length
        limit = room if truncate else 0
        if runtime.ranks:
            made = [pair(self._tokenizer, query, text, limit) for text in documents]
        else:
            self._check_judges()
            made = [(question(self._tokenizer, query, text, instruction, limit), []) for text in documents]
        tokens = [runtime.checked(ids) for ids, _ in made]
        if long := [ids for ids in tokens if len(ids) > room]:
            raise PromptTooLong(len(long[0]), room, runtime.hparams.context_length, truncate=not truncate)
        return Pairs(tokens, [types for _, types in made])

    def scores(self, given: Pairs) -> F32:
        """The scores of pairs, (pairs,)."""
        if not given.tokens:
            return np.empty(0, np.float32)
        if not self._runtime.ranks:
            return self._judged(given.tokens)
        tensors, activation = self._runtime.opened.tensors, f"{self._runtime.arch.name}.classifier.activation"
        rows = tensors["token_types.weight"].shape[0] if "token_types.weight" in tensors else 1
        scores = self._runtime.embedder.embed(given.tokens, given.types if rows > 1 else [])
        return scores_of(scores, str(self._runtime.opened.metadata.get(activation) or ""))

    def _judged(self, prompts: list[list[int]]) -> F32:
        """How probable it is that a decoder says yes to each of several prompts, which begin alike."""
        ids, engine = answers(self._tokenizer), self._runtime.engine
        starts = range(0, len(prompts), TOGETHER)
        logits = (row[ids] for at in starts for row in engine.following(prompts[at : at + TOGETHER]))
        return np.array([chance_of_yes(row) for row in logits], np.float32)

    def _check_judges(self) -> None:
        self._runtime.check_reads_nothing("rerank")
        if self._runtime.encoder:
            arch = self._runtime.arch.name
            raise RequestError(f"rerank: '{arch}' has no classifier of pairs here; embed() gives its embeddings")
        answers(self._tokenizer)
