"""What every scheme of packed weights is made of: a tensor unpacked when read, its parts, and codes of a few bits.

It knows no scheme. A value is computed in float32 and rounded once, to the type that the scheme's library returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna import quants
from puna.dtypes import BF16, F8_E8M0, F16, F32, DType, Stored
from puna.errors import ConversionError
from puna.formats.mapped import to_values

Array = NDArray[Any]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rows = Callable[[int, int], Floats]
"""Rows start..stop of a tensor, float32 (stop - start, *rest)."""

BlockRows = Callable[[int, int], Bytes]
"""Rows start..stop of a tensor along its first axis, as blocks: uint8 (stop - start, *rest, bytes of a row)."""

BAND = 1 << 20
"""Elements unpacked at once: 4 MB as float32."""

FLOATS = {"float32": F32, "float16": F16, "bfloat16": BF16}
"""Names that configurations give to types."""


@dataclass(frozen=True, eq=False)
class Unpacked:
    """A packed weight seen as a plain one (a `puna.dtypes.Stored`).

    `parts` are the tensors it is made of, by role. `lossless` names the ggml type whose blocks can hold the same codes
    and scales, if there is one; then `blocks` gives the bytes of the blocks of rows, as `rows` gives values, of the
    tensor itself or, with `transposed`, of its matrices turned over. Bands begin at a multiple of `step` rows.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    rows: Rows
    parts: Mapping[str, Stored]
    lossless: str | None = None
    step: int = 1
    blocks: BlockRows | None = None
    transposed: bool = False

    def chunks(self) -> Iterator[Bytes]:
        """The bytes of the plain tensor, a band of rows at a time."""
        count = max(1, BAND // max(1, prod(self.shape[1:])) // self.step) * self.step
        for start in range(0, self.shape[0], count):
            yield self.band(start, min(start + count, self.shape[0]))

    def band(self, start: int, stop: int) -> Bytes:
        """The bytes of rows start..stop of the plain tensor; `start` is a multiple of `step`."""
        with np.errstate(over="ignore", invalid="ignore"):  # a code may be NaN, a product infinite
            values = np.ascontiguousarray(self.rows(start, stop), np.float32)
        return rounded(values, self.dtype).reshape(-1).view(np.uint8)

    @property
    def raw(self) -> Bytes:
        """All bytes at once."""
        out, end = np.empty(self.dtype.nbytes(self.shape), np.uint8), 0
        for chunk in self.chunks():
            begin, end = end, end + chunk.size
            out[begin:end] = chunk
        return out

    def numpy(self) -> Floats:
        """The values, float32, as `dtype` holds them."""
        return to_values(self.raw, self.dtype, self.shape)


@dataclass(frozen=True)
class Parts:
    """The tensors of one packed weight by role; `name` is the weight's, `settings` what the config says about it."""

    name: str
    tensors: Mapping[str, Stored]
    settings: Mapping[str, Any]

    def __getitem__(self, role: str) -> Stored:
        return self.tensors[role]

    def get(self, role: str) -> Stored | None:
        """The part, or None."""
        return self.tensors.get(role)

    def error(self, wrong: str, works: str) -> ConversionError:
        """An error that names the weight."""
        return ConversionError(f"unpacking '{self.name}': {wrong}; {works}")

    def check(self, role: str, shape: tuple[int, ...], dtypes: Iterable[str]) -> None:
        """ConversionError where a part that is there has another shape, or none of the types."""
        part, names = self.tensors.get(role), tuple(dtypes)
        if part is not None and (part.shape != shape or part.dtype.name not in names):
            wrong = f"its {role} is {part.dtype} {part.shape}"
            raise self.error(wrong, f"{' or '.join(names)} {shape} would fit")

    def setting(self, key: str, allowed: Iterable[int] = ()) -> int:
        """The number that the config says; ConversionError where it says none, or none of those allowed (none: any)."""
        value, known = self.settings.get(key), tuple(allowed)
        if type(value) is not int or (known and value not in known):
            works = ", ".join(map(str, known)) or "a number"
            raise self.error(f"'quantization_config' says {key!r}: {repr(value)[:80]}", f"what works: {works}")
        return value

    def unpacked(
        self,
        shape: tuple[int, ...],
        dtype: DType,
        rows: Rows,
        lossless: str | None = None,
        step: int = 1,
        *,
        blocks: BlockRows | None = None,
        transposed: bool = False,
    ) -> Unpacked:
        """The weight, its rows being computed by `rows`."""
        return Unpacked(self.name, shape, dtype, rows, self.tensors, lossless, step, blocks, transposed)


def elements(tensor: Stored) -> Array:
    """A plain tensor's elements as they are stored, in shape: a view of the file; bfloat16 and fp8 as their bits."""
    return tensor.raw.view(tensor.dtype.numpy).reshape(tensor.shape)


def floats(tensor: Stored, stored: Array | None = None) -> Floats:
    """The values of a tensor, or of some of its elements (as `elements` gives them): float32."""
    return decoded(elements(tensor) if stored is None else stored, tensor.dtype)


def decoded(stored: Array, dtype: DType) -> Floats:
    """What elements of a plain type mean, float32."""
    whole = np.ascontiguousarray(stored)
    return to_values(whole.reshape(-1).view(np.uint8), dtype, whole.shape).astype(np.float32, copy=False)


def rounded(values: Floats, dtype: DType) -> Array:
    """Values as stored elements of F32, F16 or BF16: to nearest, ties to even."""
    return quants.quantize(values, dtype.name)


def round_to(values: Floats, dtype: DType) -> Floats:
    """The nearest values that a type can hold, float32."""
    return to_values(rounded(values, dtype).reshape(-1).view(np.uint8), dtype, values.shape)


def unpack_bits(packed: Array, bits: int) -> Bytes:
    """Codes of 1 to 8 `bits`, the lowest bits of the first byte first, from rows of whole words: uint8 (..., codes)."""
    stream = np.ascontiguousarray(packed).view(np.uint8)
    mask = np.uint8((1 << bits) - 1)
    if bits == 8:
        return stream
    if 8 % bits == 0:
        codes: Bytes = (stream[..., None] >> np.arange(0, 8, bits, dtype=np.uint8)) & mask
        return codes.reshape(*stream.shape[:-1], stream.shape[-1] * 8 // bits)
    wide = np.zeros((*stream.shape[:-1], stream.shape[-1] // bits), np.uint64)  # eight codes are `bits` bytes
    for i in range(bits):
        wide |= stream[..., i::bits].astype(np.uint64) << np.uint64(8 * i)
    shifts64 = np.arange(8, dtype=np.uint64) * np.uint64(bits)
    codes = (wide[..., None] >> shifts64).astype(np.uint8) & mask
    return codes.reshape(*stream.shape[:-1], wide.shape[-1] * 8)


def e8m0(codes: Bytes) -> Floats:
    """Powers of two by their biased exponent; 255 is NaN."""
    return decoded(codes, F8_E8M0)


def groups_in_order(columns: int, groups: int) -> NDArray[np.intp]:
    """The group of each column where each has as many."""
    return np.arange(columns) // (columns // groups)
