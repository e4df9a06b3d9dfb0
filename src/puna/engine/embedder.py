"""Embeddings: hidden states of whole texts, several in one step, pooled to one vector each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.cache import BLOCK
from puna.engine.runner import Part, Runner
from puna.errors import ModelError, RequestError

F32 = NDArray[np.float32]
Pool = Callable[[F32], F32]

RANK = 4
"""The pooling type of a classifier's scores."""

POOLS: dict[int, Pool] = {
    1: lambda hidden: np.asarray(hidden.mean(0, dtype=np.float32)),
    2: lambda hidden: hidden[0],
    3: lambda hidden: hidden[-1],
    RANK: lambda scores: scores[0],
}
"""By GGUF's `pooling_type`: mean, first token, last token; of a classifier, what it says of the first."""


def pooling(metadata: Mapping[str, Any], arch: str, encoder: bool) -> Pool:
    """How a model's hidden states become one vector; unsaid, the mean for encoders and the last token for decoders."""
    kind = metadata.get(f"{arch}.pooling_type") or (1 if encoder else 3)
    if kind not in POOLS:
        raise ModelError(f"{arch}: pooling type {kind} is unknown; known: 1 mean, 2 first, 3 last token, 4 scores")
    return POOLS[int(kind)]


class Embedder:
    """Runs texts through a Runner whose output is hidden states."""

    def __init__(self, runner: Runner, pool: Pool) -> None:
        self._runner = runner
        self._pool = pool
        self._lock = threading.Lock()

    @property
    def width(self) -> int:
        """Elements of a vector."""
        return self._runner.width

    def embed(self, texts: Sequence[list[int]], types: Sequence[list[int]] = ()) -> F32:
        """One vector for each list of token ids: (len(texts), width). `types` of the tokens; none: all are 0."""
        if empty := [i for i, ids in enumerate(texts) if not ids]:
            raise RequestError(f"embed: text {empty[0]} has no tokens; at least one is needed")
        out = np.empty((len(texts), self.width), np.float32)
        place = 0
        with self._lock:
            for group in self._groups(texts):
                kinds = [kind for each in types[place : place + len(group)] for kind in each]
                for states in self._hidden(group, kinds):
                    out[place] = self._pool(states)
                    place += 1
        return out

    def _groups(self, texts: Sequence[list[int]]) -> Iterator[list[list[int]]]:
        """Texts in order, as many at once as fit in one step; one that is longer is by itself."""
        size = self._runner.limits
        most = min(size.sequences, size.states) if self._runner.recurrent else size.sequences
        group: list[list[int]] = []
        for ids in texts:
            full = sum(map(len, group)) + len(ids) > size.outputs or len(group) == most
            if group and full:
                yield group
                group = []
            group.append(ids)
        yield group

    def _hidden(self, group: list[list[int]], types: list[int]) -> list[F32]:
        """Hidden states (tokens, width) of each text, its cache in blocks of its own."""
        size, parts, first = self._runner.limits, [], 0
        for place, ids in enumerate(group):
            blocks = list(range(first, first - (-len(ids) // BLOCK)))
            parts.append(Part(ids, 0, blocks, place))
            first += len(blocks)
        if len(group) == 1:
            ids, _, blocks, *_ = parts[0]
            starts = range(0, len(ids), size.outputs)
            step = size.outputs
            chunks = [self._rows([Part(ids[at : at + step], at, blocks)], types[at : at + step]) for at in starts]
            return [np.concatenate(chunks)]
        ends = np.cumsum([len(ids) for ids in group])
        return np.split(self._rows(parts, types), ends[:-1])

    def _rows(self, parts: list[Part], types: list[int]) -> F32:
        count = sum(len(part.tokens) for part in parts)
        return self._runner.run(parts, list(range(count)), types)[0].copy()
