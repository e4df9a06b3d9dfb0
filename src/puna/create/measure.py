"""How far written values are from their source's, and checksums of what was written."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from math import sqrt
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from puna.create.report import Drift
from puna.dtypes import DType
from puna.formats.mapped import to_values

STEP = 1 << 16
READ = 1 << 22


class Meter:
    """Adds up the differences of one tensor, band by band, from any thread."""

    def __init__(self, dtype: DType) -> None:
        self._dtype = dtype
        self._lock = threading.Lock()
        self._sums = np.zeros(4)  # of squared differences, of squares before and after, of products
        self._count = 0
        self._largest = 0.0

    def __call__(self, values: NDArray[Any], encoded: NDArray[np.uint8]) -> None:
        """Count one band: the values as they were, and the bytes that they became."""
        after = to_values(encoded, self._dtype, values.shape).reshape(-1)
        before = values.reshape(-1).astype(np.float32, copy=False)
        sums, largest = np.zeros(4), 0.0
        for start in range(0, before.size, STEP):
            x, y = before[start : start + STEP], after[start : start + STEP]
            d = y - x
            sums += [float(np.dot(d, d)), float(np.dot(x, x)), float(np.dot(y, y)), float(np.dot(x, y))]
            largest = max(largest, float(np.abs(d).max()))
        with self._lock:
            self._sums += sums
            self._count += before.size
            self._largest = max(self._largest, largest)

    def drift(self) -> Drift | None:
        """The result, None where nothing was counted."""
        if not self._count:
            return None
        squared, before, after, product = (float(total) for total in self._sums)
        both = sqrt(before * after)
        return Drift(
            rmse=sqrt(squared / self._count),
            relative=sqrt(squared / before) if before else 0.0,
            largest=self._largest,
            cosine=min(product / both, 1.0) if both else 1.0,
        )


def checksums(places: Mapping[str, tuple[BinaryIO, int, int]]) -> dict[str, str]:
    """SHA-256 of each tensor's bytes as they are in a file: its name -> file, first byte, number of bytes."""
    return {name: _checksum(*place) for name, place in places.items()}


def _checksum(file: BinaryIO, begin: int, nbytes: int) -> str:
    total = hashlib.sha256()
    file.seek(begin)
    while nbytes:
        data = file.read(min(nbytes, READ))
        total.update(data)
        nbytes -= len(data)
    return total.hexdigest()
