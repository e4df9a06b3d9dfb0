"""Importance matrices: runs a text through a model and adds up the squares of what goes into each weight.

As llama.cpp's llama-imatrix does: the text in chunks of equal size, each a sequence of its own that begins with the
begin token; only weights of blocks count, and on demand the output. It knows tokens, not texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from puna.cache import BLOCK
from puna.engine.limits import CHUNK, Limits
from puna.engine.runner import Runner
from puna.engine.step import Part
from puna.errors import ModelError, RequestError
from puna.formats.imatrix import Imatrix
from puna.graph import Tensor
from puna.graph.squares import Squares, input_squares


class MakeRunner(Protocol):
    """Compiles a program that computes what `observe` makes of the model's output."""

    def __call__(self, limits: Limits, observe: Callable[[Tensor], Sequence[Tensor]]) -> Runner:
        """The runner."""
        ...


def cut(tokens: Sequence[int], size: int, first: int, most: int | None, begin: int | None) -> list[list[int]]:
    """Cut tokens into whole chunks, from the one numbered `first` (0), at most so many.

    `begin` takes the place of the first token of each. RequestError where there is not one whole chunk.
    """
    if size < 1 or first < 0 or (most is not None and most < 1):
        raise RequestError(
            f"imatrix: {'all' if most is None else most} chunks of {size} tokens from chunk {first}; "
            "at least one chunk of one token would work"
        )
    end = len(tokens) // size if most is None else min(len(tokens) // size, first + most)
    if end <= first:
        raise RequestError(
            f"imatrix: the text has {len(tokens)} token{'' if len(tokens) == 1 else 's'}, no whole chunk of {size} "
            f"{f'from chunk {first} on' if first else 'in them'}; a longer text, or smaller chunks, would work"
        )
    chunks = [list(tokens[i * size : (i + 1) * size]) for i in range(first, end)]
    return chunks if begin is None else [[begin, *chunk[1:]] for chunk in chunks]


class Collector:
    """Adds up, chunk by chunk; `output` measures the last matrix too. `chunks` were added so far."""

    def __init__(
        self, make: MakeRunner, chunk_size: int, *, encoder: bool = False, output: bool = False, dataset: str = ""
    ) -> None:
        self.chunks = 0
        self._datasets = (dataset,) if dataset else ()
        self._size = chunk_size
        self._output = output
        self._squares: list[Squares] = []
        self._runner = make(limits(chunk_size, encoder=encoder), self._observed)
        self._sums = [np.zeros([int(d) for d in s.sums.shape], np.float64) for s in self._squares]  # type: ignore[arg-type]
        self._counts = [np.zeros(len(sums), np.int64) for sums in self._sums]

    @property
    def at_once(self) -> int:
        """Chunks that are best added together."""
        return self._runner.limits.sequences

    def add(self, chunks: Sequence[list[int]]) -> None:
        """Run chunks, at most `at_once`."""
        for parts in self._steps(chunks):
            rows = sum(len(part.tokens) for part in parts)
            results = iter(self._runner.run(parts, list(range(rows))))
            for place, squares in enumerate(self._squares):
                self._sums[place] += next(results)
                self._counts[place] += rows if squares.counts is None else np.rint(next(results)[0]).astype(np.int64)
        self.chunks += len(chunks)

    def imatrix(self) -> Imatrix:
        """What was added up so far. ModelError where a value is not finite."""
        sums: dict[str, NDArray[np.float32]] = {}
        counts: dict[str, NDArray[np.int64]] = {}
        for squares, total, rows in zip(self._squares, self._sums, self._counts, strict=True):
            for name in squares.weights:
                if not np.isfinite(total).all():
                    raise ModelError(
                        f"imatrix: the input of {name!r} is not finite; the model, or its file, is damaged"
                    )
                sums[name], counts[name] = total.astype(np.float32), rows.copy()
        return Imatrix(sums, counts, self.chunks, self._size, self._datasets)

    def _observed(self, output: Tensor) -> list[Tensor]:
        last = _last_weight(output)
        self._squares = input_squares([output], lambda name: _of_a_block(name) or (self._output and name == last))
        if not self._squares:
            raise ModelError("imatrix: this model has no matrices in blocks; there is nothing to measure")
        return [each for s in self._squares for each in (s.sums, s.counts) if each is not None]

    def _steps(self, chunks: Sequence[list[int]]) -> Iterator[list[Part]]:
        """One step with all chunks where they fit, else one chunk in several steps."""
        room, table = self._runner.limits.tokens, self._runner.limits.table
        for start in range(0, self._size, room):
            parts = [chunk[start : start + room] for chunk in chunks]
            yield [Part(ids, start, list(range(i * table, (i + 1) * table)), i) for i, ids in enumerate(parts)]


def measured(
    collector: Collector,
    chunks: Sequence[list[int]],
    on_chunk: Callable[[int, int, Callable[[], Imatrix]], None] | None = None,
) -> Imatrix:
    """The matrix that chunks give; `on_chunk` is told how many are done, how many there are, and what they gave."""
    for start in range(0, len(chunks), collector.at_once):
        collector.add(chunks[start : start + collector.at_once])
        if on_chunk:
            on_chunk(collector.chunks, len(chunks), collector.imatrix)
    return collector.imatrix()


def limits(chunk_size: int, *, encoder: bool) -> Limits:
    """Program sizes: several short chunks in one step, a long one in several, unless its tokens see both ways."""
    together = max(CHUNK // chunk_size, 1)
    tokens = together * chunk_size if encoder or chunk_size <= CHUNK else CHUNK
    table = -(-chunk_size // BLOCK)
    slots = together * table * BLOCK
    return Limits(slots=slots, states=together, tokens=tokens, outputs=tokens, sequences=together, table=table)


def _of_a_block(name: str) -> bool:
    """Whether it is a matrix of a block, and none of an adapter's, whose names are longer."""
    return name.startswith("blk.") and name.endswith(".weight")


def _last_weight(output: Tensor) -> str:
    node = output
    while node.op != "linear" and node.sources:
        node = node.sources[0]
    return node.inputs[1].name if node.op == "linear" else ""
