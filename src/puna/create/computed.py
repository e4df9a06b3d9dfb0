"""Tensors that no file holds: they follow from others, or from a configuration. For those that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import quants
from puna.dtypes import DType

Array = NDArray[Any]


@dataclass(frozen=True)
class Computed:
    """A tensor whose values are computed when they are asked for (a `puna.dtypes.Stored`)."""

    shape: tuple[int, ...]
    dtype: DType
    make: Callable[[], Array] = field(repr=False)

    @property
    def raw(self) -> NDArray[np.uint8]:
        """The bytes in `dtype`."""
        return quants.quantize(np.ascontiguousarray(self.make(), np.float32), self.dtype.name).reshape(-1)

    def numpy(self) -> Array:
        """float32."""
        return np.ascontiguousarray(self.make(), np.float32)
