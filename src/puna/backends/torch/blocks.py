"""Blocks of bytes on a device: their fields as tensors, and tables that decoders look up. It knows no type by name.

Where a field lies in a block is what `puna.quants` says; bytes are taken apart with integer operations, on the device.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

Tensor: TypeAlias = Any
"""A torch.Tensor; of what torch gives, nothing is known where it is not installed."""
WIDER = {"<u2": (torch.int16, torch.int32, 0xFFFF), "<u4": (torch.int32, torch.int64, 0xFFFFFFFF)}
"""Unsigned types that torch hardly computes with: read as signed, widened, masked."""
PLAIN = {"|u1": torch.uint8, "|i1": torch.int8, "<f2": torch.float16, "<f4": torch.float32, "<i2": torch.int16}


def fields(raw: Tensor, layout: np.dtype[Any]) -> dict[str, Tensor]:
    """Each field of blocks (n, bytes) as a tensor (n, count); floats as float32, words as wider signed integers."""
    found = {}
    for name, (dtype, offset, *_) in (layout.fields or {}).items():
        found[name] = typed(raw[:, offset : offset + dtype.itemsize], dtype.base)
    return found


def typed(part: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Bytes (n, bytes) as values of a numpy dtype."""
    if dtype.str == "|u1":
        return part
    if dtype.str in WIDER:
        signed, wide, mask = WIDER[dtype.str]
        return part.contiguous().view(signed).to(wide) & mask
    values = part.contiguous().view(PLAIN[dtype.str])
    return values.float() if dtype.kind == "f" else values


def split_bits(packed: Tensor, bits: int) -> Tensor:
    """Each byte of (..., k) in fields, lowest bits first: (..., 8 / bits, k)."""
    shifts = counting(8 // bits, bits, packed.dtype, packed.device)
    return (packed.unsqueeze(-2) >> shifts[:, None]) & ((1 << bits) - 1)


def bits_of(words: Tensor, bits: int, count: int) -> Tensor:
    """The lowest `count` fields of each word (..., k), lowest bits first: (..., k, count)."""
    shifts = counting(count, bits, words.dtype, words.device)
    return (words.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)


def stripes(packed: Tensor, bits: int, stretch: int) -> Tensor:
    """Fields of (n, bytes) in the order of elements, (n, elements); `stretch` bytes share one run of stripes."""
    return split_bits(packed.reshape(len(packed), -1, stretch), bits).reshape(len(packed), -1)


@cache
def counting(count: int, step: int, dtype: Any, device: Any) -> Tensor:
    """0, step, 2 step ... on a device."""
    return torch.arange(0, count * step, step, dtype=dtype, device=device)


class Tables:
    """Arrays that decoders look up, each brought to a device once."""

    def __init__(self) -> None:
        self._on: dict[tuple[str, Any], Tensor] = {}

    def __call__(self, name: str, array: NDArray[Any], device: Any) -> Tensor:
        """The array under this name on a device."""
        if (name, device) not in self._on:
            self._on[name, device] = torch.tensor(array, device=device)
        return self._on[name, device]


table = Tables()
