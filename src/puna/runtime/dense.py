"""The matrices that come after pooling, of a model whose metadata and tensors agree on them."""

from __future__ import annotations

from collections.abc import Mapping

from puna.arch.base import Architecture
from puna.arch.binding import after_pooling
from puna.engine.embedder import Dense
from puna.errors import ModelError
from puna.opened import Opened


def dense_of(opened: Opened, arch: Architecture, said: Mapping[str, str]) -> list[Dense]:
    """Those that are `said`, names to activations, in that order; ModelError where the file has others."""
    tensors = opened.tensors
    there = after_pooling(arch, tensors)
    if {key.partition(".")[0] for key in there} != set(said) or any(f"{key}.weight" not in there for key in said):
        raise ModelError(
            f"{opened.source.name}: after pooling come {', '.join(said) or 'no matrices'}, as its metadata has it; "
            f"the file has {', '.join(sorted(there)) or 'none'}"
        )
    bias = {key: tensors[f"{key}.bias"].numpy() for key in said if f"{key}.bias" in there}
    return [Dense(tensors[f"{key}.weight"].numpy(), bias.get(key), kind) for key, kind in said.items()]
