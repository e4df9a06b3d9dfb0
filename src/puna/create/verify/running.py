"""Runs two models stage by stage on the same tokens, and measures where they part.

Weights are taken in for one stage of one side at a time. What is right comes from a `Truth`, which is the source run in
float32, or another program's hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from puna import cache
from puna.arch.binding import whole_graph
from puna.arch.hparams import Hparams
from puna.backends.base import Backend, Bounds
from puna.create.verify import measures
from puna.create.verify.sides import Side, as_float, inputs
from puna.create.verify.stages import Stage, cut
from puna.dtypes import Stored
from puna.errors import ModelError

Array = NDArray[Any]
Streams = dict[int, Array]


class Truth(Protocol):
    """Where the values come from that a model is held to."""

    def gives(self, place: int, stage: Stage) -> list[Array | None]:
        """What stage number `place` gives, in its order; None for what is not known."""
        ...


@dataclass
class Staged:
    """A model that runs a stage at a time on `ids`; on float32 copies of its weights, with `floats`."""

    side: Side
    hparams: Hparams
    backend: Backend
    ids: list[int]
    floats: bool = False

    def __post_init__(self) -> None:
        self.tensors: Mapping[str, Stored] = as_float(self.side.tensors) if self.floats else self.side.tensors
        output = whole_graph(self.side.arch, self.hparams, self.tensors, -(-len(self.ids) // cache.BLOCK))
        self.stages = cut(output, self.hparams.hidden_size)

    @property
    def encodes(self) -> bool:
        """Whether its output are hidden states, not logits."""
        return any(spec.encoder for spec in self.side.arch.caches(self.hparams))

    def program(self, stage: Stage) -> Callable[[Streams], list[Array]]:
        """The stage on its weights: from what it takes to what it gives, arrays of their own. No run sees another."""
        weights = self.backend.load({name: self.tensors[name] for name in stage.weights})
        count = len(self.ids)
        given = inputs(self.ids, cache.reaches(self.side.arch.caches(self.hparams)))

        def run(streams: Streams) -> list[Array]:
            program = self.backend.compile(stage.outputs, weights, Bounds(T=count, O=count, S=1))  # fresh states
            taken = {f"stream.{k}": streams[k] for k in stage.takes}
            return [np.array(out) for out in program.run({**given, **taken})]

        return run

    def nbytes(self, stage: Stage) -> int:
        """Bytes of a stage's weights as they are taken in."""
        return sum(self.tensors[n].dtype.nbytes(tuple(self.tensors[n].shape)) for n in stage.weights)


class Source:
    """The truth that is another model run by Puna, in float32."""

    def __init__(self, staged: Staged) -> None:
        self.staged = staged
        self._streams: Streams = {}

    def gives(self, place: int, stage: Stage) -> list[Array | None]:
        """All of them."""
        stage = self.staged.stages[place]
        out = self.staged.program(stage)(self._streams)
        self._streams |= dict(zip(stage.gives, out, strict=True))
        return [*out]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one stage came to: errors a row, accumulated and, given the right input, its own; and its outputs."""

    place: int
    stage: Stage
    errors: Array
    local: Array | None
    want: Array
    got: Array


def run(truth: Truth, model: Staged) -> Iterator[Measured]:
    """Each stage in turn; only hidden states are kept, so the caller decides what stays of the outputs."""
    right: Streams = {}
    found: Streams = {}
    for place, stage in enumerate(model.stages):
        given = truth.gives(place, stage)
        program = model.program(stage)
        own = program(found)
        alone = program(right) if stage.takes else None
        del program
        wanted = [mine if theirs is None else theirs for theirs, mine in zip(given, own, strict=True)]
        yield _measured(place, stage, wanted, own, alone, right)
        found |= dict(zip(stage.gives, own, strict=True))
        right |= dict(zip(stage.gives, wanted, strict=True))


def _measured(
    place: int,
    stage: Stage,
    wanted: Sequence[Array],
    own: Sequence[Array],
    alone: Sequence[Array] | None,
    right: Streams,
) -> Measured:
    want, got = (_joined([values[i] for i in stage.main]) for values in (wanted, own))
    local = None
    if alone is not None:
        before = [right[k] for k in stage.takes if right[k].shape == want.shape]
        added = want - before[-1] if before and stage.blocks else want
        local = measures.row_errors(want, _joined([alone[i] for i in stage.main]), added)
    return Measured(place, stage, measures.row_errors(want, got), local, want, got)


def _joined(arrays: Sequence[Array]) -> Array:
    """Hidden states of the same rows side by side."""
    if len(arrays) == 1:
        return arrays[0]
    rows = max(array.shape[0] for array in arrays)
    return np.concatenate([np.moveaxis(a, a.shape.index(rows), 0).reshape(rows, -1) for a in arrays], axis=1)


def matching(a: Sequence[Stage], b: Sequence[Stage], labels: tuple[str, str]) -> None:
    """ModelError where two models are not made of the same stages."""

    def made(stage: Stage) -> tuple[object, ...]:
        return stage.name, stage.takes, stage.gives, [output.shape for output in stage.outputs]

    if len(a) != len(b):
        raise ModelError(f"verifying {labels[0]}: it has {len(a)} stages, {labels[1]} has {len(b)}: other models")
    for one, other in zip(a, b, strict=True):
        if made(one) != made(other):
            raise ModelError(
                f"verifying {labels[0]}: its {one.name} gives {[*one.outputs]!r}, "
                f"that of {labels[1]} {[*other.outputs]!r}: other models"
            )


BASE = 200 << 20
"""Bytes that are taken before any weight: the interpreter, libraries, vocabularies."""


def memory(staged: Staged) -> int:
    """Bytes that running takes at its peak, roughly: one stage's weights twice in float32, hidden states, outputs."""
    tokens = len(staged.ids)

    def width(stage: Stage) -> int:
        return sum(o.shape[-1] for o in stage.outputs if isinstance(o.shape[-1], int))

    def peak(stage: Stage) -> int:
        return 8 * sum(prod(staged.tensors[n].shape) for n in stage.weights) + 4 * tokens * 6 * width(stage)

    return BASE + max(map(peak, staged.stages)) + 2 * 4 * tokens * sum(map(width, staged.stages))
