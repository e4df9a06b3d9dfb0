"""One run of a program: the sizes of its symbols, what was given on the host, and what was worked out for it once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from puna.backends.torch.blocks import Tensor
from puna.graph.tensor import Tensor as Node

Found = TypeVar("Found")


class Step:
    """What every node of a run may ask for."""

    def __init__(self, device: torch.device, sizes: Mapping[str, int], given: Mapping[str, NDArray[Any]]) -> None:
        self.device = device
        self.sizes = sizes
        self._given = given
        self._known: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Found]) -> Found:
        """What `make` gives, made once a run for each key."""
        if key not in self._known:
            self._known[key] = make()
        found: Found = self._known[key]
        return found

    def on_host(self, node: Node, value: Tensor) -> NDArray[Any]:
        """The array of a node that says where things lie; inputs and constants are not fetched from the device."""
        if node.op == "input":
            return self._given[node.name]
        if node.op == "constant":
            return np.asarray(node.attrs["value"])
        return self.once(("host", node), lambda: value.cpu().numpy())

    def index(self, array: NDArray[Any]) -> Tensor:
        """Integers on the device, for looking up."""
        return torch.tensor(array, dtype=torch.int64, device=self.device)
