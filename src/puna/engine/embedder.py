"""Embeddings: hidden states of whole texts, several in one step, pooled to one vector each."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from puna.cache import BLOCK
from puna.engine.choosing import Choosing, Chosen
from puna.engine.runner import Runner
from puna.engine.step import Part
from puna.errors import RequestError

F32 = NDArray[np.float32]
Pool = Callable[[F32, int], F32]
"""From hidden states (tokens, width), and how many of the first are not pooled, to a vector."""


def _weighted(hidden: F32, skip: int) -> F32:
    """The mean by positions, which count from 1; tokens after those that are left out keep theirs."""
    weights = np.arange(skip + 1, len(hidden) + 1, dtype=np.float32)
    return np.asarray(weights @ hidden[skip:] / weights.sum(), np.float32)


POOLS: Mapping[str, Pool] = {
    "mean": lambda hidden, skip: np.asarray(hidden[skip:].mean(0, dtype=np.float32)),
    "cls": lambda hidden, skip: hidden[skip],
    "lasttoken": lambda hidden, skip: hidden[-1],
    "max": lambda hidden, skip: np.asarray(hidden[skip:].max(0)),
    "mean_sqrt_len_tokens": lambda hidden, skip: np.asarray(
        hidden[skip:].sum(0, dtype=np.float32) / np.float32((len(hidden) - skip) ** 0.5)
    ),
    "weightedmean": _weighted,
}
"""By their names in puna.embedding."""


ACTIVATIONS: Mapping[str, Callable[[F32], F32]] = {
    "identity": lambda vector: vector,
    "tanh": lambda vector: np.asarray(np.tanh(vector)),
    "relu": lambda vector: np.maximum(vector, np.float32(0)),
    "sigmoid": lambda vector: np.asarray(1 / (1 + np.exp(-vector)), np.float32),
}
"""By their names in puna.embedding."""


class Dense(NamedTuple):
    """A matrix (rows, columns) that a vector is multiplied by, what is added (rows,), and what follows."""

    weight: F32
    bias: F32 | None
    activation: str

    def __call__(self, vector: F32) -> F32:
        """The vector after it."""
        product = np.asarray(self.weight @ vector)
        return ACTIVATIONS[self.activation](product if self.bias is None else product + self.bias)


class Embedder:
    """Runs texts through a Runner whose output is hidden states, which are pooled and go through matrices.

    `modes` of pooling, whose vectors are joined.
    """

    def __init__(self, runner: Runner, modes: Sequence[str], dense: Sequence[Dense] = ()) -> None:
        self._runner = runner
        self._pools = [POOLS[mode] for mode in modes]
        self._dense = dense
        self._lock = threading.Lock()
        self._always: Chosen = ()

    @property
    def width(self) -> int:
        """Elements of a vector."""
        return len(self._dense[-1].weight) if self._dense else self._runner.width * len(self._pools)

    @property
    def choosing(self) -> Choosing:
        """The adapters that texts may be read with."""
        return self._runner.choosing

    def drop(self, adapter: int) -> None:
        """Let go of an adapter by its number, once the step under way is done."""
        with self._lock:
            self.choosing.remove(adapter)

    def having(self, adapters: Chosen) -> Embedder:
        """The same embedder for who wants these adapters."""
        found = copy(self)
        found._always = adapters
        return found

    def embed(self, texts: Sequence[list[int]], types: Sequence[list[int]] = (), skips: Sequence[int] = ()) -> F32:
        """One vector for each list of token ids: (len(texts), width), in their order.

        `types` of the tokens; none: all are 0. `skips`: how many of the first tokens of each text are not pooled.
        """
        if empty := [i for i, ids in enumerate(texts) if not ids]:
            raise RequestError(f"embed: text {empty[0]} has no tokens; at least one is needed")
        out = np.empty((len(texts), self.width), np.float32)
        for group in self._groups([len(ids) for ids in texts]):
            kinds = [kind for place in group for kind in types[place]] if types else []
            with self._lock:
                hidden = self._hidden([texts[place] for place in group], kinds)
            for place, states in zip(group, hidden, strict=True):
                skip = min(skips[place], len(states) - 1) if skips else 0
                vector = np.concatenate([pool(states, skip) for pool in self._pools])
                for dense in self._dense:
                    vector = dense(vector)
                out[place] = vector
        return out

    def _groups(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of texts that make up a step: the longest that is left, then the longest that still fits, and so on.

        A text that is longer than a step is by itself.
        """
        size = self._runner.limits
        most = min(size.sequences, size.states) if self._runner.recurrent else size.sequences
        left = sorted(range(len(lengths)), key=lengths.__getitem__)
        while left:
            group = [left.pop()]
            room, blocks = size.outputs - lengths[group[0]], size.slots // BLOCK - _blocks(lengths[group[0]])
            while len(group) < most:
                fitting = bisect_right(left, min(room, blocks * BLOCK), key=lengths.__getitem__)
                if not fitting:
                    break
                group.append(left.pop(fitting - 1))
                room, blocks = room - lengths[group[-1]], blocks - _blocks(lengths[group[-1]])
            yield group

    def _hidden(self, group: list[list[int]], types: list[int]) -> list[F32]:
        """Hidden states (tokens, width) of each text, its cache in blocks of its own."""
        size, parts, first = self._runner.limits, [], 0
        for place, ids in enumerate(group):
            blocks = list(range(first, first + _blocks(len(ids))))
            parts.append(Part(ids, 0, blocks, place, adapters=self._always))
            first += len(blocks)
        if len(group) == 1:
            ids, _, blocks, *_ = parts[0]
            starts = range(0, len(ids), size.outputs)
            step = size.outputs
            part = Part(ids, 0, blocks, adapters=self._always)
            cut = (part._replace(tokens=ids[at : at + step], start=at) for at in starts)
            chunks = [self._rows([each], types[each.start : each.start + step]) for each in cut]
            return [np.concatenate(chunks)]
        ends = np.cumsum([len(ids) for ids in group])
        return np.split(self._rows(parts, types), ends[:-1])

    def _rows(self, parts: list[Part], types: list[int]) -> F32:
        count = sum(len(part.tokens) for part in parts)
        return self._runner.run(parts, list(range(count)), types)[0].copy()


def _blocks(length: int) -> int:
    """How many blocks of the cache a text takes."""
    return -(-length // BLOCK)
