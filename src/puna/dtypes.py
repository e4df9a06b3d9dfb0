"""Element and block types: the names, ggml ids and sizes that files, graph and backends agree on.

It does not know how a block is encoded; that is `puna.quants`.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from puna.errors import FormatError


@dataclass(frozen=True, slots=True)
class DType:
    """One type: rows of `block_size` elements are stored in `block_bytes` bytes.

    `ggml_id` is the number GGUF files use, or None where ggml has none. `numpy` is the dtype an array of it has
    (the element type; for bf16, fp8 and block types it is the raw storage: uint16 or uint8).
    """

    name: str
    ggml_id: int | None
    block_size: int
    block_bytes: int
    numpy: np.dtype

    @property
    def quantized(self) -> bool:
        """Whether several elements share a block."""
        return self.block_size > 1

    @property
    def is_float(self) -> bool:
        """Whether the type is a plain floating-point type."""
        return self.name in ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0")

    @property
    def bits(self) -> float:
        """Bits per element."""
        return 8 * self.block_bytes / self.block_size

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row of `columns` elements; FormatError where the row is no whole number of blocks."""
        blocks, rest = divmod(columns, self.block_size)
        if rest:
            raise FormatError(
                f"{self.name}: row of {columns} is not a multiple of the block size {self.block_size}; "
                "F16, or a type with smaller blocks, would work"
            )
        return blocks * self.block_bytes

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a row-major array of `shape` (elements)."""
        return self.row_bytes(shape[-1]) * prod(shape[:-1]) if shape else self.block_bytes

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"DType({self.name})"


def _plain(name: str, ggml_id: int | None, numpy: str) -> DType:
    dtype = np.dtype(numpy)
    return DType(name, ggml_id, 1, dtype.itemsize, dtype)


def _block(name: str, ggml_id: int, size: int, nbytes: int) -> DType:
    return DType(name, ggml_id, size, nbytes, np.dtype("u1"))


F32 = _plain("F32", 0, "<f4")
F16 = _plain("F16", 1, "<f2")
BF16 = _plain("BF16", 30, "<u2")
F64 = _plain("F64", 28, "<f8")
I8 = _plain("I8", 24, "i1")
I16 = _plain("I16", 25, "<i2")
I32 = _plain("I32", 26, "<i4")
I64 = _plain("I64", 27, "<i8")
U8 = _plain("U8", None, "u1")
U16 = _plain("U16", None, "<u2")
U32 = _plain("U32", None, "<u4")
U64 = _plain("U64", None, "<u8")
BOOL = _plain("BOOL", None, "?")
F8_E4M3 = _plain("F8_E4M3", None, "u1")
F8_E5M2 = _plain("F8_E5M2", None, "u1")
F8_E8M0 = _plain("F8_E8M0", None, "u1")

Q4_0 = _block("Q4_0", 2, 32, 18)
Q4_1 = _block("Q4_1", 3, 32, 20)
Q5_0 = _block("Q5_0", 6, 32, 22)
Q5_1 = _block("Q5_1", 7, 32, 24)
Q8_0 = _block("Q8_0", 8, 32, 34)
Q2_K = _block("Q2_K", 10, 256, 84)
Q3_K = _block("Q3_K", 11, 256, 110)
Q4_K = _block("Q4_K", 12, 256, 144)
Q5_K = _block("Q5_K", 13, 256, 176)
Q6_K = _block("Q6_K", 14, 256, 210)
Q8_K = _block("Q8_K", 15, 256, 292)

DTYPES: dict[str, DType] = {
    dtype.name: dtype
    for dtype in (
        *(F32, F16, BF16, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL, F8_E4M3, F8_E5M2, F8_E8M0),
        *(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K),
        _block("Q8_1", 9, 32, 36),
        _block("IQ2_XXS", 16, 256, 66),
        _block("IQ2_XS", 17, 256, 74),
        _block("IQ3_XXS", 18, 256, 98),
        _block("IQ1_S", 19, 256, 50),
        _block("IQ4_NL", 20, 32, 18),
        _block("IQ3_S", 21, 256, 110),
        _block("IQ2_S", 22, 256, 82),
        _block("IQ4_XS", 23, 256, 136),
        _block("IQ1_M", 29, 256, 56),
        _block("TQ1_0", 34, 256, 54),
        _block("TQ2_0", 35, 256, 66),
        _block("MXFP4", 39, 32, 17),
        _block("NVFP4", 40, 64, 36),
        _block("Q1_0", 41, 128, 18),
    )
}
"""Every type by name."""

BY_GGML_ID: dict[int, DType] = {d.ggml_id: d for d in DTYPES.values() if d.ggml_id is not None}
"""Every type that GGUF files can hold, by its number."""


KV_TYPES = ("f32", "f16", "q8_0")
"""What keys and values are kept as."""


class Stored(Protocol):
    """A tensor somewhere outside: in a mapped file, or computed from one when asked; it costs nothing until then."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Row-major shape in elements."""
        ...

    @property
    def dtype(self) -> DType:
        """The stored type."""
        ...

    @property
    def raw(self) -> NDArray[np.uint8]:
        """The stored bytes, 1-D; a view of the mapped file where possible."""
        ...

    def numpy(self) -> NDArray[Any]:
        """The values in `shape`: float32 for float and block types, the integer type otherwise."""
        ...
