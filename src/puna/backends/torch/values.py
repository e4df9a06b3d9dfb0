"""What lies in device memory: weights as they are stored, and states in the type that they are kept in.

Either is read by rows, by tiles or whole, as float32; nothing here knows of graphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch

from puna.backends.torch.blocks import Tensor
from puna.backends.torch.decoders import decode
from puna.dtypes import DType

TILE = {"cpu": 1 << 20}
"""Elements that are decoded at once; a processor's stay in its cache, a device's fill it."""
TILE_OF_DEVICES = 1 << 24


class Packed:
    """A weight (..., columns) as it is stored: rows of bytes, decoded when somebody reads them."""

    def __init__(self, raw: Tensor, dtype: DType, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = dtype, shape
        self._rows = raw.reshape(prod(shape[:-1]), dtype.row_bytes(shape[-1]))

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return int(self._rows.numel())

    def decoded(self, rows: Tensor) -> Tensor:
        """Rows of bytes (n, row_bytes) as float32 (n, columns)."""
        blocks = rows.reshape(-1, self.dtype.block_bytes)
        return decode(blocks, self.dtype.name).reshape(len(rows), self.shape[-1])

    def rows(self, index: Tensor) -> Tensor:
        """w[index] along the first axis."""
        if not index.numel():
            return torch.empty((*index.shape, *self.shape[1:]), device=index.device)
        each = self._rows.reshape(self.shape[0], -1, self._rows.shape[1])
        chosen = each.index_select(0, index.reshape(-1))
        return self.decoded(chosen.flatten(0, 1)).reshape(*index.shape, *self.shape[1:])

    def tiles(self, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """Rows of the matrix, or of those from `start` to `stop`, some at a time: (n, columns)."""
        step = max(1, TILE.get(self._rows.device.type, TILE_OF_DEVICES) // self.shape[-1])
        stop = len(self._rows) if stop is None else stop
        for first in range(start, stop, step):
            yield self.decoded(self._rows[first : min(first + step, stop)])

    def values(self) -> Tensor:
        """All of it."""
        return torch.cat(list(self.tiles())).reshape(self.shape)


class State:
    """Memory of `shape`, its first axis slots, kept in `dtype`; one slot more takes what is not to be written."""

    def __init__(self, dtype: DType, shape: tuple[int, ...], device: torch.device) -> None:
        self.dtype, self.shape = dtype, shape
        kept = KEPT[dtype.name]
        row = shape[1:] if kept is not torch.uint8 else (prod(shape[1:]) // dtype.block_size, dtype.block_bytes)
        self.data = torch.zeros((shape[0] + 1, *row), dtype=kept, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes on the device, of what can be written."""
        return int(self.data[:-1].numel() * self.data.element_size())

    def write(self, slots: Tensor, values: Tensor) -> State:
        """state[slots] = values; a slot below 0 is passed over."""
        if not len(slots):
            return self
        rows = quantize_q8_0(values) if self.dtype.name == "Q8_0" else values.to(self.data.dtype)
        places = torch.where(slots < 0, self.shape[0], slots)
        self.data.index_copy_(0, places.long(), rows.reshape(len(slots), *self.data.shape[1:]))
        return self

    def read(self, slots: Tensor) -> Tensor:
        """The values of slots (n,), each below the last one: (n, ...); float16 if so kept, else float32."""
        return self._values(self.data.index_select(0, slots))

    def run(self, first: int, count: int) -> Tensor:
        """The same of slots that lie side by side; a view where they are kept as floats."""
        return self._values(self.data[first : first + count])

    def values(self) -> Tensor:
        """All of them, float32."""
        return self._values(self.data[:-1]).float()

    def _values(self, rows: Tensor) -> Tensor:
        if self.data.dtype is not torch.uint8:
            return rows
        return decode(rows.reshape(-1, 34), "Q8_0").reshape(len(rows), *self.shape[1:])


KEPT = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "Q8_0": torch.uint8}
"""What a state of each type is kept in."""


def quantize_q8_0(values: Tensor) -> Tensor:
    """Blocks of Q8_0, the bytes that `puna.quants` gives: (n, ...) of whole blocks of 32 to (blocks, 34)."""
    x = values.reshape(-1, 32)
    scale = x.abs().amax(1, keepdim=True) / 127
    inverse = torch.where(scale == 0, scale, 1 / scale)
    x = x * torch.where(torch.isinf(inverse), torch.zeros_like(inverse), inverse)
    whole = x.trunc()
    quants = (whole + ((x - whole) * 2).trunc()).to(torch.int8)  # ties go away from zero
    return torch.cat((scale.half().view(torch.uint8), quants.view(torch.uint8)), 1)


def values_of(w: Tensor | Packed | State) -> Tensor:
    """float32 values of whatever is in device memory."""
    return w.float() if isinstance(w, torch.Tensor) else w.values()


def rows_of(w: Tensor | Packed, index: Tensor) -> Tensor:
    """w[index] along the first axis, as float32."""
    if isinstance(w, Packed):
        return w.rows(index)
    return w.index_select(0, index.reshape(-1)).reshape(*index.shape, *w.shape[1:]).float()


def product(x: Tensor, w: Tensor | Packed, start: int = 0, stop: int | None = None) -> Tensor:
    """x (n, K) times the transpose of w's rows `start` to `stop`; packed ones are decoded tile by tile."""
    if isinstance(w, Packed):
        return torch.cat([x @ tile.T for tile in w.tiles(start, stop)], 1)
    rows = w.reshape(-1, w.shape[-1])[start:stop]
    return (x.to(w.dtype) @ rows.T).float()
