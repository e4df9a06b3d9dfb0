"""Adapters that sequences choose, and a program beside the plain one that adds each token's own.

A step in which nobody has one runs the plain program, and costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puna.backends.base import Array, Program
from puna.dtypes import Stored
from puna.engine.stacks import check_choosable, stack, strength
from puna.errors import RequestError
from puna.formats.lora import Adapter
from puna.graph import Tensor
from puna.graph.adapt_each import adapt_each, choice_names

Chosen = tuple[tuple[int, float], ...]
"""The adapters of a sequence: each one's number, and the factor of its change."""

Compile = Callable[[Tensor, Mapping[str, Stored]], Program]
"""A program of an adapted graph, which shares states and weights with the plain one; more weights are given."""


@dataclass(frozen=True)
class _Made:
    """A program for some adapters, up to as many at once as it has rows of numbers and scales."""

    program: Program
    strengths: Mapping[int, float]
    numbers: NDArray[np.int32]
    scales: NDArray[np.float32]

    def fits(self, chosen: Chosen) -> bool:
        return len(chosen) <= len(self.numbers) and all(number in self.strengths for number, _ in chosen)

    def inputs(self, rows: Iterable[tuple[int, Chosen]]) -> dict[str, Array]:
        """Arrays for tokens, so many of each sequence with what that has chosen."""
        end = 0
        for count, chosen in rows:
            begin, end = end, end + count
            self.numbers[:, begin:end] = 0
            for i, (number, factor) in enumerate(chosen):
                self.numbers[i, begin:end] = number
                self.scales[i, begin:end] = factor * self.strengths[number]
        arrays: dict[str, Array] = {}
        for i, (number_row, scale_row) in enumerate(zip(self.numbers, self.scales, strict=True)):
            arrays |= zip(choice_names(i), (number_row[:end], scale_row[:end]), strict=True)
        return arrays


class Choosing:
    """Adapters by number, for the graph that computes `output`, with rows `wanted`, in steps of up to `tokens`.

    Several threads may use it: who is about to use an adapter has the program made, while steps go on with the last.
    """

    def __init__(
        self, output: Tensor, wanted: Tensor, tensors: Mapping[str, Stored], tokens: int, compile: Compile
    ) -> None:
        self._graph = [output]
        self._wanted = wanted
        self._tensors = tensors
        self._tokens = tokens
        self._compile = compile
        self._adapters: dict[int, Adapter] = {}
        self._count = 0
        self._made: _Made | None = None
        self._making = threading.Lock()

    def add(self, adapter: Adapter, number: int = 0) -> int:
        """An adapter that fits the base, from now on to be chosen; its number, if that is not given.

        ModelError, GraphError for one that does not fit.
        """
        check_choosable(adapter)
        adapt_each(self._graph, stack({1: adapter}, self._tensors)[1], 1, self._wanted)
        with self._making:
            self._count = number or self._count + 1
            self._adapters[self._count] = adapter
            return self._count

    def remove(self, number: int) -> None:
        """Let go of an adapter that no sequence has; the program is made anew when the next one is asked for."""
        with self._making:
            del self._adapters[number]
            self._made = None

    def check(self, chosen: Chosen) -> None:
        """RequestError where there is no such adapter, or no longer."""
        if gone := [number for number, _ in chosen if number not in self._adapters]:
            raise RequestError(f"adapter {gone[0]}: it is not there, or no longer; there are {[*self._adapters]}")

    def ready(self, chosen: Chosen) -> _Made:
        """The program for such a choice, made now if need be; RequestError where there is no such adapter."""
        made = self._made
        if made is not None and made.fits(chosen):
            return made
        with self._making:
            self.check(chosen)
            if self._made is None or not self._made.fits(chosen):
                self._made = self._make(max(len(chosen), 1 if self._made is None else len(self._made.numbers)))
            return self._made

    def _make(self, count: int) -> _Made:
        weights, stacks = stack(self._adapters, self._tensors)
        (output,) = adapt_each(self._graph, stacks, count, self._wanted)
        program = self._compile(output, weights)
        strengths = {number: strength(adapter) for number, adapter in self._adapters.items()}
        rows = (count, self._tokens)
        return _Made(program, strengths, np.zeros(rows, np.int32), np.zeros(rows, np.float32))

    def run(self, inputs: Mapping[str, Array], rows: Sequence[tuple[int, Chosen]]) -> list[Array]:
        """Run the batch of `inputs`, so many tokens of each sequence with what that has chosen."""
        made = [self.ready(chosen) for _, chosen in rows][-1]  # each has all that those before it had
        return made.program.run({**inputs, **made.inputs(rows)})
