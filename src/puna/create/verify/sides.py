"""What is verified and what it is verified against: a model's metadata and tensors, wherever they are.

a name in a store     a .gguf file     a checkpoint directory, seen as the GGUF file that it would become
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import arch as archs
from puna import cache
from puna.arch.base import Architecture
from puna.arch.binding import read_hparams
from puna.arch.hparams import Hparams
from puna.create.computed import Computed
from puna.dtypes import F32, Stored
from puna.errors import ModelError


@dataclass(frozen=True)
class Side:
    """One model of a comparison.

    `label` as it was named. `directory`: of the checkpoint, if it is one. `left_out` are names of its tensors that
    none needs. `template`, `system` and `renderer` are a Modelfile's. `blobs` are files with the digests of a store.
    """

    label: str
    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    directory: Path | None = None
    left_out: tuple[str, ...] = ()
    template: str | None = None
    system: str | None = None
    renderer: str | None = None
    blobs: tuple[tuple[str, Path, str], ...] = field(default=())

    @property
    def arch(self) -> Architecture:
        """Its architecture; ModelError where none is named or it is unknown."""
        name = self.metadata.get("general.architecture")
        if not isinstance(name, str):
            raise ModelError(f"{self.label}: the file has no 'general.architecture'")
        return archs.find(name)

    def hparams(self) -> Hparams:
        """Its hyperparameters as the engine reads them; ModelError where they contradict the tensors."""
        return read_hparams(self.arch, self.metadata, self.tensors)


def as_float(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The same tensors, all that hold numbers with a point as float32, so that a backend computes with just these."""
    floats = {name: t for name, t in tensors.items() if t.dtype is not F32 and (t.dtype.is_float or t.dtype.quantized)}
    return {**tensors, **{name: Computed(t.shape, F32, t.numpy) for name, t in floats.items()}}


def inputs(ids: list[int], reaches: Iterable[int]) -> dict[str, NDArray[np.int32]]:
    """The inputs of one run on a fresh sequence, all of whose rows are wanted; `reaches` of its blocks."""
    count = len(ids)
    place = np.arange(count, dtype=np.int32)
    table = np.arange(-(-count // cache.BLOCK), dtype=np.int32)[None]
    names = (cache.place_names(reach) for reach in {0, *reaches})
    places = {name: array for pair in names for name, array in zip(pair, (place, table), strict=True)}
    return {
        **places,
        "tokens": np.asarray(ids, np.int32),
        "positions": place,
        "sequence": np.zeros(count, np.int32),
        "lengths": np.array([count], np.int32),
        "read_slots": place,  # of an encoder-decoder, whose encoder reads the same tokens
        "read_table": table,
        "read_lengths": np.array([count], np.int32),
        "outputs": place,
        "types": np.zeros(count, np.int32),
        "state_from": np.array([-1], np.int32),
        "state_to": np.zeros(1, np.int32),
    }
