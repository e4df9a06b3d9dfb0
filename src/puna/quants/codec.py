"""What a quantization type is, and the bit shuffling that the families share. It knows no type by name."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from puna.dtypes import DType
from puna.errors import ConversionError

# numpy's stubs say float64 for a quotient of float32 and int for uint8 & 15, so the element types are only named here.
Floats = NDArray[Any]
"""An array of float32."""
Bytes = NDArray[Any]
"""An array of uint8."""
Blocks = NDArray[Any]
"""A structured array, one record per block, with the fields of `Codec.layout`."""


class Codec:
    """One type: `layout` is a block as a numpy record; `decode` and `encode` work on any number of blocks at once.

    `weighted` says whether an importance matrix weighs the error, or is ignored as ggml does; `by_row`, whether it is
    first multiplied by sqrt(mean square of the whole row + x^2), which a codec that sees blocks cannot know;
    `needs_importance`, that the type is not written without one; `largest`, the magnitude beyond which no scale in F16
    would do, and ggml's sums of powers overflow.
    """

    dtype: ClassVar[DType]
    layout: ClassVar[np.dtype[Any]]
    encodes: ClassVar[bool] = True
    weighted: ClassVar[bool] = False
    by_row: ClassVar[bool] = False
    needs_importance: ClassVar[bool] = False
    largest: ClassVar[float] = 2.0**36

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        """Write the values of `blocks` (n records) into `out` (n, block_size)."""
        raise NotImplementedError

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        """Return n records for `values` (n, block_size), which may be overwritten.

        `weights` has the same shape, or is None. Called with numpy's floating-point warnings off.
        """
        raise NotImplementedError


def split_bits(packed: Bytes, bits: int) -> Bytes:
    """Split each byte of (..., k) into fields, lowest bits first: (..., 8 / bits, k)."""
    out = np.empty((*packed.shape[:-1], 8 // bits, packed.shape[-1]), np.uint8)
    for i in range(8 // bits):
        np.right_shift(packed, i * bits, out=out[..., i, :])
    out &= (1 << bits) - 1
    return out


def join_bits(fields: Bytes, bits: int) -> Bytes:
    """Undo `split_bits`: (..., 8 / bits, k) to (..., k); bits above the field must be zero."""
    out = fields[..., 0, :].copy()
    for i in range(1, 8 // bits):
        out |= fields[..., i, :] << np.uint8(i * bits)
    return out


def to_half(values: Floats) -> NDArray[np.float16]:
    """Round block scales to F16; ConversionError where one is too large to be stored."""
    half: NDArray[np.float16] = values.astype("<f2")
    if np.isinf(half).any():
        largest = float(np.abs(values).max())
        raise ConversionError(
            f"quantize: a block scale of {largest:g} exceeds 65504, the largest F16; BF16 or F32 would work"
        )
    return half


def reciprocal(scale: Floats) -> Floats:
    """Return 1 / scale: 0 where the scale is 0, infinite where it is so small that the reciprocal overflows."""
    inverse = np.float32(1) / scale
    inverse[scale == 0] = 0
    return inverse
