"""What lies in MLX's memory: matrices of codes, and states in the type that they are kept in.

Nothing here knows of graphs.
"""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from puna.backends.affine import TYPES, Codes
from puna.dtypes import DType

Array: TypeAlias = mx.array

GROUP = 32
CODED = {name: coded for name, coded in TYPES.items() if coded.group == GROUP}
"""Types that MLX multiplies by: its groups have 32 codes at least."""


def packed(codes: Codes, bits: int) -> NDArray[np.uint32]:
    """Codes (rows, columns) as MLX packs them, a little-endian stream of bits: (rows, columns * bits / 32)."""
    if bits == 8:
        stream = np.ascontiguousarray(codes)
    elif bits == 4:
        stream = np.ascontiguousarray(codes[:, 0::2] | codes[:, 1::2] << 4)
    else:
        each = np.unpackbits(codes[:, :, None], axis=2, count=bits, bitorder="little")
        stream = np.packbits(each.reshape(len(codes), -1), axis=1, bitorder="little")
    return stream.view("<u4")


class Affine:
    """A weight (..., columns) as MLX's quantized product takes it: codes, and a scale and a bias for each group."""

    def __init__(self, raw: NDArray[np.uint8], dtype: DType, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.bits = CODED[dtype.name].bits
        codes, scales, biases = CODED[dtype.name].read(np.ascontiguousarray(raw).reshape(-1, dtype.block_bytes))
        *lead, columns = shape
        self.codes = mx.array(packed(codes.reshape(-1, columns), self.bits)).reshape(*lead, -1)
        self.scales, self.biases = (mx.array(x).reshape(*lead, columns // GROUP) for x in (scales, biases))

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.codes.nbytes + self.scales.nbytes + self.biases.nbytes)

    @property
    def parts(self) -> dict[str, Any]:
        """As MLX's functions name them."""
        return {"scales": self.scales, "biases": self.biases, "group_size": GROUP, "bits": self.bits}

    def rows(self, index: Array) -> Array:
        """w[index] along the first axis, float32."""
        each = {"group_size": GROUP, "bits": self.bits}
        return mx.dequantize(self.codes[index], self.scales[index], self.biases[index], **each)

    def values(self) -> Array:
        """All of it."""
        return mx.dequantize(self.codes, **self.parts)

    def product(self, x: Array) -> Array:
        """x (..., K) times the transpose of a matrix (N, K)."""
        return mx.quantized_matmul(x, self.codes, transpose=True, **self.parts)

    def products(self, x: Array, ids: Array) -> Array:
        """x (T, k or 1, 1, K) times the transposes of the matrices that `ids` (T, k) name: (T, k, 1, N)."""
        return mx.gather_qmm(x, self.codes, rhs_indices=ids, transpose=True, **self.parts)


class State:
    """Memory of `shape`, its first axis slots, kept in `dtype`; one slot more takes what is not to be written."""

    def __init__(self, dtype: DType, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = dtype, shape
        kept = KEPT[dtype.name]
        row = shape[1:] if kept is not mx.uint8 else (prod(shape[1:]) // dtype.block_size, dtype.block_bytes)
        self.data = mx.zeros((shape[0] + 1, *row), kept)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, of what can be written."""
        return int(self.data.nbytes // len(self.data) * self.shape[0])

    def write(self, slots: Array, values: Array) -> State:
        """state[slots] = values; a slot below 0 is passed over."""
        if len(slots):
            rows = quantize_q8_0(values) if self.dtype.name == "Q8_0" else values.astype(self.data.dtype)
            places = mx.where(slots < 0, self.shape[0], slots)
            self.data[places] = rows.reshape(len(slots), *self.data.shape[1:])
        return self

    def read(self, slots: Array) -> Array:
        """The values of slots (n,), each below the last one: (n, ...); float16 if so kept, else float32."""
        return self._values(self.data[slots])

    def values(self) -> Array:
        """All of them, float32."""
        return self._values(self.data[:-1]).astype(mx.float32)

    def _values(self, rows: Array) -> Array:
        if self.data.dtype != mx.uint8:
            return rows
        scale = mx.contiguous(rows[..., :2]).view(mx.float16).astype(mx.float32)
        codes = mx.contiguous(rows[..., 2:]).view(mx.int8).astype(mx.float32)
        return (codes * scale).reshape(len(rows), *self.shape[1:])


KEPT = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16, "Q8_0": mx.uint8}
"""What a state of each type is kept in."""


def quantize_q8_0(values: Array) -> Array:
    """Blocks of Q8_0, the bytes that `puna.quants` gives: (n, ...) of whole blocks of 32 to (blocks, 34)."""
    x = values.reshape(-1, 32)
    scale = mx.abs(x).max(1, keepdims=True) / 127
    inverse = mx.where(scale == 0, scale, 1 / scale)
    x = x * mx.where(mx.isinf(inverse), mx.zeros_like(inverse), inverse)
    size = mx.floor(mx.abs(x) + 0.5)  # ties go away from zero; no code reaches where the sum would round
    size = mx.where(size - mx.abs(x) > 0.5, size - 1, size)
    quants = (mx.sign(x) * size).astype(mx.int8)
    return mx.concatenate((scale.astype(mx.float16).view(mx.uint8), quants.view(mx.uint8)), 1)


Weight: TypeAlias = Array | Affine


def values_of(w: Weight | State) -> Array:
    """float32 values of whatever is in memory."""
    return w.astype(mx.float32) if isinstance(w, mx.array) else w.values()


def rows_of(w: Weight, index: Array) -> Array:
    """w[index] along the first axis, as float32."""
    return w.rows(index) if isinstance(w, Affine) else w[index].astype(mx.float32)
