"""One run of a program: the sizes of its symbols, what was given on the host, and what was worked out for it once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from puna.backends.mlx.values import Array
from puna.errors import BackendError
from puna.graph.tensor import Tensor as Node

Found = TypeVar("Found")


class Step:
    """What every node of a run may ask for."""

    def __init__(self, sizes: Mapping[str, int], given: Mapping[str, NDArray[Any]]) -> None:
        self.sizes = sizes
        self._given = given
        self._known: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Found]) -> Found:
        """What `make` gives, made once a run for each key."""
        if key not in self._known:
            self._known[key] = make()
        found: Found = self._known[key]
        return found

    def on_host(self, node: Node, value: Array) -> NDArray[Any]:
        """The array of a node that says where things lie; inputs and constants wait for nothing."""
        if node.op == "input":
            return self._given[node.name]
        if node.op == "constant":
            return np.asarray(node.attrs["value"])
        return self.once(("host", node), lambda: np.array(value))

    def require_below(self, node: Node, size: int, who: Node) -> None:
        """BackendError where an input names a row that is not there: MLX itself would read past the end."""
        if node.op in ("input", "constant"):
            self.once(("below", node, size), lambda: _require_below(self.on_host(node, None), size, who))


def _require_below(index: NDArray[Any], size: int, who: Node) -> None:
    if index.size and not 0 <= index.min() <= index.max() < size:
        wrong = index.min() if index.min() < 0 else index.max()
        raise BackendError(f"backend 'mlx': {who!r}: row {wrong} of {size}")
