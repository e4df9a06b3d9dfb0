"""Stored weights as a graph asks for them: by name, shape and type."""

from __future__ import annotations

from collections.abc import Mapping

from puna.dtypes import Stored
from puna.errors import BackendError
from puna.graph.tensor import Tensor


def checked(weights: Mapping[str, Stored], node: Tensor, backend: str) -> Stored:
    """The weight that a node names; BackendError where it was not loaded, or is another one."""
    stored = weights.get(node.name)
    if stored is not None and tuple(stored.shape) == node.shape and stored.dtype is node.dtype:
        return stored
    found = "nothing by that name" if stored is None else f"shape {tuple(stored.shape)}, {stored.dtype}"
    raise BackendError(
        f"backend '{backend}': weight '{node.name}' of shape {node.shape}, {node.dtype} was not loaded; found {found}"
    )
