"""Runs an architecture without the engine: sequences given as tokens and the positions whose outputs are wanted."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from chosen import ASKED
from chosen import BACKENDS as BACKENDS
from golden.families.seq2seq import source
from puna import arch as archs
from puna.backends import open_backend
from puna.backends.base import Backend
from puna.cache import BLOCK
from puna.engine.limits import Limits
from puna.engine.reader import Reader
from puna.engine.runner import Runner
from puna.engine.step import Part
from puna.opened import Opened

Array = np.ndarray[Any, Any]


@cache
def backend_of(name: str) -> Backend:
    return open_backend(name, threads=None if ASKED else 2)


class Answering:
    """A decoder before whose first step of a sequence an encoder reads a text, by the decoder's first token."""

    def __init__(self, runner: Runner, reader: Reader) -> None:
        self.runner, self.reader = runner, reader
        self.memory, self.program = runner.memory, runner.program
        self._texts: dict[int, list[int]] = {}  # by a sequence's first block

    def step(self, parts: list[Part], outputs: list[int]) -> Array:
        """One step; where texts lie are blocks behind all of the decoder's."""
        asked = []
        for part in parts:
            places = [self.runner.limits.slots // BLOCK // 2 + block for block in reversed(part.blocks)]
            if part.start == 0:
                self._texts[part.blocks[0]] = source(part.tokens)
                self.reader.read(self._texts[part.blocks[0]], places)
            asked.append(part._replace(read=places, read_length=len(self._texts[part.blocks[0]])))
        return self.runner.step(asked, outputs)


def runner(
    opened: Opened, backend: str, *, tokens: int = 256, sequences: int = 4, table: int = 3
) -> Runner | Answering:
    """A program with float32 caches for `sequences` of `table` blocks."""
    arch = archs.find(str(opened.metadata["general.architecture"]))
    hp = arch.hparams.from_gguf(arch.name, opened.metadata)
    made = backend_of(backend)
    slots = table * sequences * BLOCK * (2 if arch.encoder else 1)
    size = Limits(slots=slots, states=sequences, tokens=tokens, outputs=tokens, sequences=sequences, table=table)
    parts = (arch, hp, opened.tensors, made, made.load(opened.tensors))
    runner = Runner(*parts, size, kv_type="f32")
    return Answering(runner, Reader(*parts, runner, kv_type="f32")) if arch.encoder else runner


def blocks_of(sequence: int, table: int = 3) -> list[int]:
    """Blocks of cache that belong to a sequence; not in order, as in an engine that has run for a while."""
    return [sequence * table + i for i in reversed(range(table))]


def run(opened: Opened, backend: str, sequences: Sequence[tuple[list[int], list[int]]]) -> Array:
    """Outputs (rows, width) of one step with all `sequences`, each its tokens and the wanted positions."""
    parts = [Part(ids, 0, blocks_of(i), i) for i, (ids, _) in enumerate(sequences)]
    starts = np.cumsum([0, *(len(ids) for ids, _ in sequences)])
    rows = [int(start) + row for start, (_, wanted) in zip(starts, sequences, strict=False) for row in wanted]
    return runner(opened, backend).step(parts, rows).copy()
