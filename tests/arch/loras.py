"""Random LoRA adapters for any architecture, as they are after their files were opened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from puna import arch as archs
from puna.arch.binding import bind, outputs_of
from puna.dtypes import DTYPES, DType
from puna.formats.lora import Adapter, Pair
from puna.graph import adapt, topological
from puna.opened import Opened

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Values:
    """A small matrix in memory."""

    values: Array
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def raw(self) -> Array:
        kind = "<f2" if self.dtype is DTYPES["F16"] else "<f4"
        return self.values.astype(kind).reshape(-1).view(np.uint8)

    def numpy(self) -> Array:
        return self.values


def places_of(opened: Opened) -> list[tuple[str, str]]:
    """What a model reads that adapters may change: ops with the names of weights."""
    arch = archs.find(str(opened.metadata["general.architecture"]))
    hp = arch.hparams.from_gguf(arch.name, opened.metadata)
    nodes = topological(outputs_of(arch, hp, bind(arch, hp, opened.tensors)))
    found = {place for node in nodes if (place := adapt.place_of(node))}
    return sorted(p for p in found if p[0] != "embedding" or p[1] == "token_embd.weight")


def random_adapter(opened: Opened, seed: int, rank: int, kind: str = "F32", some: slice = slice(None)) -> Adapter:
    """An adapter that changes `some` of all that can be changed."""
    rng, pairs = np.random.default_rng(seed), {}

    def matrix(*shape: int) -> Values:
        values = rng.standard_normal(shape).astype(np.float32) * np.float32(0.2)
        return Values(values.astype(np.float16).astype(np.float32), DTYPES[kind])

    for op, name in places_of(opened)[some]:
        *experts, n, k = opened.tensors[name].shape
        if op == "embedding":
            pairs[name] = Pair(matrix(n, rank), matrix(k, rank), 0.5, lookup=True)
        elif name != "token_embd.weight" or "output.weight" in opened.tensors:
            pairs[name] = Pair(matrix(*experts, rank, k), matrix(*experts, n, rank), 0.5)
        else:
            pairs["output.weight"] = Pair(matrix(rank, k), matrix(n, rank), 2.0)
    return Adapter(Path(f"{seed}.gguf"), str(opened.metadata["general.architecture"]), pairs, {})
