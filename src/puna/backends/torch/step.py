"""One run of a program on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from puna.backends import walk
from puna.backends.torch.blocks import Tensor


class Step(walk.Step):
    """What every node of a run may ask for, and the device."""

    def __init__(self, device: torch.device, sizes: Mapping[str, int], given: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(sizes, given, lambda value: value.cpu().numpy())
        self.device = device

    def index(self, array: NDArray[Any]) -> Tensor:
        """Integers on the device, for looking up."""
        return torch.tensor(array, dtype=torch.int64, device=self.device)
