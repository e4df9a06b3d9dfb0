"""Reads texts for a decoder: runs a model's encoder on a whole one, and keeps in the decoder's states what it reads.

It knows places in those states, not who holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from puna import cache
from puna.arch.base import Architecture, Hparams
from puna.arch.binding import bind
from puna.backends.base import Backend, Bounds, Memory, Weights
from puna.cache import BLOCK
from puna.dtypes import DTYPES, Stored
from puna.engine.runner import Runner
from puna.errors import ModelError
from puna.graph.adapt import LowRank, Place, adapt


class Reader:
    """An encoder beside the `runner` of its decoder, for texts of as many tokens as a sequence there may have."""

    def __init__(
        self,
        arch: Architecture,
        hp: Hparams,
        tensors: Mapping[str, Stored],
        backend: Backend,
        weights: Weights,
        runner: Runner,
        kv_type: str = "f16",
        changes: Mapping[Place, Sequence[LowRank]] | None = None,
    ) -> None:
        if arch.encoder is None:
            raise ModelError(f"{arch.name}: it has no encoder beside a decoder")
        size, table = runner.limits, runner.limits.table
        own = cache.states(arch.encoder.caches(hp), table * BLOCK, 0, DTYPES["F32"], name="encoder")
        theirs = cache.states(arch.caches(hp), size.slots, size.states, DTYPES[kv_type.upper()], size.windows)
        hidden, read = arch.encoder.forward(bind(arch, hp, tensors), hp, cache.batch(table), own, theirs)
        nodes = [hidden, *(state for kv in read for state in kv.kept)]
        output, *writes = adapt(nodes, changes, partly=True) if changes else nodes
        bounds = Bounds(T=table * BLOCK, O=table * BLOCK, S=1)
        self._program = backend.compile([output], weights, bounds, writes=writes, beside=runner.program)
        self._table = np.arange(table, dtype=np.int32)[None]

    @property
    def memory(self) -> Memory:
        """What the program takes besides the weights and the decoder's states."""
        return self._program.memory

    def read(self, tokens: Sequence[int], blocks: Sequence[int], outputs: Sequence[int] = ()) -> NDArray[np.float32]:
        """Leave in `blocks` what the decoder reads of a text; its hidden states at `outputs`, until the next text."""
        places = np.arange(len(tokens), dtype=np.int32)
        slots = np.asarray(blocks, np.int32)[places // BLOCK] * BLOCK + places % BLOCK
        return self._program.run(
            {
                "tokens": np.asarray(tokens, np.int32),
                "positions": places,
                "sequence": np.zeros(len(tokens), np.int32),
                "slots": places,
                "table": self._table,
                "lengths": np.array([len(tokens)], np.int32),
                "read_slots": slots,
                "outputs": np.asarray(outputs, np.int32),
            }
        )[0]
