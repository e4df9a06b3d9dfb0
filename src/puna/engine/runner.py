"""A compiled model: from an architecture and its tensors to a program, and from a planned step to its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from puna import cache
from puna.arch.base import Architecture, Hparams
from puna.arch.binding import bind
from puna.backends.base import Backend, Bounds, Memory, Portable, Program, Weights
from puna.cache import BLOCK
from puna.dtypes import DTYPES, DType, Stored
from puna.engine.choosing import Choosing
from puna.engine.limits import Limits
from puna.engine.step import Part
from puna.errors import ModelError
from puna.graph import Tensor
from puna.graph.adapt import LowRank, Place, adapt

BY_SEQUENCE = ("lengths", "state_from", "state_to", "read_lengths")


class Drawn(NamedTuple):
    """A model's graph: what it computes of a batch, and the states that its blocks keep."""

    output: Tensor
    batch: cache.Batch
    states: list[cache.KV]


def drawn(
    arch: Architecture,
    hp: Hparams,
    tensors: Mapping[str, Stored],
    limits: Limits,
    kv_type: str,
    changes: Mapping[Place, Sequence[LowRank]] | None = None,
) -> Drawn:
    """The graph of a model with memory of these limits; ModelError where heads cannot be kept as `kv_type`."""
    specs = arch.caches(hp)
    _check_kept(specs, DTYPES[kv_type.upper()])
    states = cache.states(specs, limits.slots, limits.states, DTYPES[kv_type.upper()], limits.windows)
    batch = cache.batch(limits.table, cache.reaches(specs))
    output = arch.forward(bind(arch, hp, tensors), hp, batch, states)
    return Drawn(adapt([output], changes, partly=arch.encoder is not None)[0] if changes else output, batch, states)


class Runner:
    """Fills the batch's inputs and runs the program, which computes the output, or what `observe` makes of it."""

    def __init__(
        self,
        arch: Architecture,
        hp: Hparams,
        tensors: Mapping[str, Stored],
        backend: Backend,
        weights: Weights,
        limits: Limits,
        kv_type: str = "f16",
        hidden: bool = False,
        changes: Mapping[Place, Sequence[LowRank]] | None = None,
        observe: Callable[[Tensor], Sequence[Tensor]] | None = None,
    ) -> None:
        output, batch, states = drawn(arch, hp, tensors, limits, kv_type, changes)

        def compiled(output: Tensor, weights: Weights, beside: Program | None = None) -> Program:
            output = last_hidden(output) if hidden else output
            bounds = Bounds(T=limits.tokens, O=limits.outputs, S=limits.sequences)
            return backend.compile(observe(output) if observe else [output], weights, bounds, beside=beside)

        def adapted(output: Tensor, more: Mapping[str, Stored]) -> Program:
            return compiled(output, backend.load(more, beside=weights), self._program)

        self.limits = limits
        self.recurrent = any(kv.recurrent for kv in states)
        self.states = {
            node.name: None if node in kv.recurrent else kv.spec.reach if kv.spec.reach in limits.windows else 0
            for kv in states
            for node in (*kv.kept, *kv.recurrent)
        }
        """Their reach, of those in blocks of their own; 0: in blocks of all positions; None: memories."""
        self.best = backend.best
        self.width = int((last_hidden(output) if hidden else output).shape[-1])  # type: ignore[arg-type]  # a number
        self._program = compiled(output, weights)
        self.choosing = Choosing(output, batch.outputs, tensors, limits.tokens, adapted)
        self.copy = self._copy if isinstance(self._program, Portable) else None
        self._rows = {n: np.zeros(limits.tokens, np.int32) for n in ("tokens", "positions", "sequence", "types")}
        self._tables = {reach: _Table(reach, limits) for reach in batch.places}
        self._by_sequence = {n: np.zeros(limits.sequences, np.int32) for n in BY_SEQUENCE}
        self._read_table = np.zeros((limits.sequences, limits.table), np.int32)
        self._outputs = np.zeros(limits.outputs, np.int32)
        self._sizes = (-1, 0, 0)
        self._typed = False
        self._inputs: dict[str, NDArray[Any]] = {}

    @property
    def program(self) -> Program:
        """What is run."""
        return self._program

    @property
    def memory(self) -> Memory:
        """What the program takes besides the weights."""
        return self._program.memory

    def _copy(self, reach: int, block: int, other: int) -> None:
        """Make a block of a reach what another one is; of all positions, if that is 0."""
        program = self._program
        assert isinstance(program, Portable)
        for name, theirs in self.states.items():
            if theirs == reach and name in program.kept:
                program.put(name, BLOCK, [other], program.fetch(name, BLOCK, [block]))

    def step(self, parts: list[Part], outputs: list[int]) -> NDArray[np.float32]:
        """Compute one step, with a part for each sequence.

        `outputs`: rows of the flat batch whose results are wanted. Gives (len(outputs), width), valid until the next
        step.
        """
        return self.run(parts, outputs)[0]

    def run(self, parts: list[Part], outputs: list[int], types: Sequence[int] = ()) -> list[NDArray[np.float32]]:
        """Compute one step, and give all that the program computes; `types` of the tokens, or all are 0."""
        rows, each, end = self._rows, self._by_sequence, 0
        if types or self._typed:
            rows["types"][:] = 0
            rows["types"][: len(types)] = types
            self._typed = bool(types)
        for s, (tokens, start, blocks, state, before, windows, read, read_length, _) in enumerate(parts):
            begin, end = end, end + len(tokens)
            for reach, table in self._tables.items():
                table.fill(s, windows.get(reach, blocks), slice(begin, end), start)
            each["lengths"][s] = start + len(tokens)
            each["state_from"][s] = -1 if start == 0 else state if before is None else before
            each["state_to"][s] = state
            each["read_lengths"][s] = read_length
            self._read_table[s, : len(read)] = read
            rows["sequence"][begin:end] = s
            rows["tokens"][begin:end] = tokens
            if len(tokens) == 1:
                rows["positions"][begin] = start
            else:
                rows["positions"][begin:end] = np.arange(start, start + len(tokens), dtype=np.int32)
        self._outputs[: len(outputs)] = outputs
        views = self._views(end, len(parts), len(outputs))
        if any(part.adapters for part in parts):
            return self.choosing.run(views, [(len(part.tokens), part.adapters) for part in parts])
        return self._program.run(views)

    def _views(self, tokens: int, sequences: int, outputs: int) -> dict[str, NDArray[Any]]:
        """What is filled of each array; those of the step before, if as many are."""
        if (tokens, sequences, outputs) != self._sizes:
            self._sizes = (tokens, sequences, outputs)
            self._inputs = {name: array[:tokens] for name, array in self._rows.items()}
            self._inputs |= {name: array[:sequences] for name, array in self._by_sequence.items()}
            self._inputs |= {"outputs": self._outputs[:outputs], "read_table": self._read_table[:sequences]}
            for table in self._tables.values():
                self._inputs |= table.views(tokens, sequences)
        return self._inputs


def _check_kept(specs: Sequence[cache.Spec], kind: DType) -> None:
    sizes = {size for spec in specs if not spec.encoder for size in (spec.key_size, spec.value_size)}
    if wrong := [size for size in sizes if size % kind.block_size]:
        raise ModelError(
            f"kv_type '{kind.name.lower()}' keeps {kind.block_size} values at a time, and this model's heads have "
            f"{wrong[0]}; f16 works"
        )


class _Table:
    """The arrays that say where positions lie, for blocks of one reach."""

    def __init__(self, reach: int, limits: Limits) -> None:
        self._names = cache.place_names(reach)
        self._slots = np.zeros(limits.tokens, np.int32)
        self._blocks = np.zeros((limits.sequences, limits.table), np.int32)
        self._held: list[list[int]] = [[] for _ in range(limits.sequences)]  # whose blocks a row of the table has
        self._known = [0] * limits.sequences  # and how many of them

    def fill(self, s: int, blocks: list[int], rows: slice, start: int) -> None:
        """Row `s` becomes `blocks`, a list that only grows while it is the same; `rows` get slots from `start` on."""
        if blocks is not self._held[s]:
            self._held[s], self._known[s] = blocks, 0
        known = self._known[s]
        if len(blocks) > known:
            self._blocks[s, known : len(blocks)] = blocks[known:]
            self._known[s] = len(blocks)
        count = rows.stop - rows.start
        if count == 1:
            self._slots[rows.start] = blocks[start // BLOCK] * BLOCK + start % BLOCK
        else:
            places = np.arange(start, start + count, dtype=np.int32)
            self._slots[rows] = self._blocks[s, places // BLOCK] * BLOCK + places % BLOCK

    def views(self, tokens: int, sequences: int) -> dict[str, NDArray[np.int32]]:
        """What is filled of each array."""
        return dict(zip(self._names, (self._slots[:tokens], self._blocks[:sequences]), strict=True))


def last_hidden(logits: Tensor) -> Tensor:
    """The hidden states that an output was projected from: the input of its last matrix."""
    node = logits
    while node.op != "linear":
        if not node.sources:
            raise ModelError("embedding: this architecture ends in no matrix, so it has no hidden state to give")
        node = node.sources[0]
    return node.sources[0]
