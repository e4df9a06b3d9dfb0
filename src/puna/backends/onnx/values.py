"""What is no plain tensor in a graph of ONNX: weights that are codes, and states in the type that they are kept in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto

from puna.backends.affine import TYPES
from puna.backends.onnx.writing import Writer
from puna.dtypes import DType

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

AFTER = ".after"
"""Behind the name of a state: what it is when a run is over."""

BYTES, FLOATS = 4, 1
"""What products of codes take activations as, as MatMulNBits numbers it: rounded to bytes (as the cpu backend does), or
as they are."""


@dataclass(frozen=True)
class Codes:
    """A weight (..., N, K) by names of its parts: codes (..., N, G, bytes), scales and biases (..., N, G).

    Of types where one code stands for 0, biases are absent.
    """

    dtype: DType
    shape: tuple[int, ...]
    codes: str
    scales: str
    biases: str | None
    taking: int = BYTES

    @property
    def bits(self) -> int:
        """Of a code as it is kept: 4, two in a byte, or 8."""
        return kept_bits(self.dtype)

    def rows(self, w: Writer, index: str) -> str:
        """w[index] along the first axis."""
        return self._values(w, *(part and w("Gather", part, index) for part in (self.codes, self.scales, self.biases)))

    def values(self, w: Writer) -> str:
        """All of it, float32."""
        return self._values(w, self.codes, self.scales, self.biases)

    def _values(self, w: Writer, codes: str | None, scales: str | None, biases: str | None) -> str:
        """code * scale + bias; (..., K)."""
        zero, lead = TYPES[self.dtype.name].zero, w("Shape", scales, end=-1)
        floats = w.cast(codes or "", FLOAT) if self.bits == 8 else self._halves(w, codes or "")
        if zero is not None:
            floats = w("Sub", floats, w.constant(np.float32(zero)))
        floats = w("Mul", floats, w.axes("Unsqueeze", scales or "", -1))
        if biases:
            floats = w("Add", floats, w.axes("Unsqueeze", biases, -1))
        return w("Reshape", floats, w("Concat", lead, w.ints(self.shape[-1]), axis=0), allowzero=1)

    def _halves(self, w: Writer, codes: str) -> str:
        """The low and the high half of each byte side by side, as floats."""
        low = w("BitwiseAnd", codes, w.constant(15, np.uint8))
        high = w("BitShift", codes, w.constant(4, np.uint8), direction="RIGHT")
        pairs = w("Concat", *(w.axes("Unsqueeze", each, -1) for each in (low, high)), axis=-1)
        group = TYPES[self.dtype.name].group
        shape = w("Concat", w("Shape", codes, end=-1), w.ints(group), axis=0)
        return w.cast(w("Reshape", pairs, shape, allowzero=1), FLOAT)

    def product(self, w: Writer, x: str) -> str:
        """x (T, K) times the transpose of a matrix (N, K).

        Of types with minima, the middle code stands for 0 and the minimum moves along: what is lost by rounding x is
        then as little as with other types.
        """
        coded, (n, k) = TYPES[self.dtype.name], self.shape
        groups, middle = k // coded.group, 1 << (coded.bits - 1)
        zeros = None
        if middle != 1 << (self.bits - 1):  # what is meant where nothing is said
            each = middle if self.bits == 8 else middle | middle << 4
            zeros = w.constant(np.full(n * -(-groups * self.bits // 8), each, np.uint8))
        attrs: dict[str, Any] = {
            "K": k,
            "N": n,
            "bits": self.bits,
            "block_size": coded.group,
            "accuracy_level": self.taking,
        }
        y = w("MatMulNBits", x, self.codes, w.reshaped(self.scales, (n * groups,)), zeros, contributed=True, **attrs)
        if self.biases is None:
            return y
        moved = w("Add", self.biases, w("Mul", self.scales, w.constant(np.float32(middle))))
        sums = w("ReduceSum", w("Reshape", x, w.ints(-1, groups, coded.group)), w.ints(2), keepdims=0)
        return w("Add", y, w("Gemm", sums, moved, transB=1))


def kept_bits(dtype: DType) -> int:
    """Bits that a code of a type is kept in."""
    return 4 if TYPES[dtype.name].bits <= 4 else 8


Weight: TypeAlias = str | Codes


def values_of(w: Writer, weight: Weight | State) -> str:
    """float32 values of whatever it is."""
    return weight if isinstance(weight, str) else weight.values(w)


def rows_of(w: Writer, weight: Weight, index: str) -> str:
    """weight[index] along the first axis, float32."""
    return w("Gather", weight, index) if isinstance(weight, str) else weight.rows(w, index)


@dataclass(frozen=True)
class State:
    """Memory of `shape`, its first axis slots, by names of its parts; one slot more takes what is not to be written."""

    dtype: DType
    shape: tuple[int, ...]
    parts: tuple[str, ...]

    def written(self, w: Writer, slots: str, values: str) -> State:
        """The state after state[slots] = values (n, ...); a slot below 0 is passed over."""
        below = w("Less", slots, w.constant(0, np.int32))
        places = w.cast(w("Where", below, w.constant(self.shape[0], np.int32), slots), INT64)
        places = w.axes("Unsqueeze", places, 1)
        rows = quantize_q8_0(w, values) if self.dtype.name == "Q8_0" else (w.cast(values, KEPT[self.dtype.name][0]),)
        after = [
            w("ScatterND", part, places, each, called=w.free(f"{part.removesuffix(AFTER)}{AFTER}"))
            for part, each in zip(self.parts, rows, strict=True)
        ]
        return replace(self, parts=tuple(after))

    def read(self, w: Writer, slots: str) -> str:
        """The float32 values of slots: slots' shape, then a slot's."""
        return self._values(w, *(w("Gather", part, slots) for part in self.parts))

    def values(self, w: Writer) -> str:
        """All of them, float32."""
        return self._values(w, *(w.cut(part, 0, 0, self.shape[0]) for part in self.parts))

    def _values(self, w: Writer, codes: str, scales: str | None = None) -> str:
        floats = w.cast(codes, FLOAT)
        if scales is None:
            return floats
        grouped = w("Concat", w("Shape", scales), w.ints(32), axis=0)
        scaled = w("Mul", w("Reshape", floats, grouped, allowzero=1), w.axes("Unsqueeze", w.cast(scales, FLOAT), -1))
        return w("Reshape", scaled, w("Shape", codes), allowzero=1)


KEPT = {
    "F32": (TensorProto.FLOAT,),
    "F16": (TensorProto.FLOAT16,),
    "Q8_0": (TensorProto.INT8, TensorProto.FLOAT16),
}
"""What the parts of a state of each type are kept in: of Q8_0 codes, and scales for 32 of them."""


def part_shapes(dtype: DType, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes of a state's parts, with the slot more."""
    rows = (shape[0] + 1, *shape[1:])
    return [rows] if dtype.name != "Q8_0" else [rows, (*rows[:-1], rows[-1] // 32)]


def quantize_q8_0(w: Writer, values: str) -> tuple[str, str]:
    """Codes and scales that `puna.quants` gives, of (..., K): (..., K) and (..., K / 32)."""
    lead = w("Shape", values, end=-1)
    x = w("Reshape", values, w("Concat", lead, w.ints(-1, 32), axis=0))
    scale = w("Div", w("ReduceMax", w("Abs", x), w.ints(-1), keepdims=1), w.constant(np.float32(127)))
    zero, half = w.constant(np.float32(0)), w.constant(np.float32(0.5))
    inverse = w("Where", w("Equal", scale, zero), scale, w("Reciprocal", scale))
    x = w("Mul", x, w("Where", w("IsInf", inverse), zero, inverse))
    size = w("Abs", x)  # ties go away from zero; no code reaches where the sum would round
    near = w("Floor", w("Add", size, half))
    over = w("Cast", w("Greater", w("Sub", near, size), half), to=FLOAT)
    codes = w("Mul", w("Sign", x), w("Sub", near, over))
    return (
        w("Reshape", w.cast(codes, TensorProto.INT8), w("Shape", values), allowzero=1),
        w.cast(w.axes("Squeeze", scale, -1), TensorProto.FLOAT16),
    )
