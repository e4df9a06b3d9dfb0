"""Quantization types: values to blocks and back, exactly as ggml's reference functions. It knows no file and no model.

`quantize` and `dequantize` are the whole interface; `CODECS` is the table of types behind them, `recipe` says which
tensor of a model gets which type. Work is done in chunks, so memory stays at the result plus a few megabytes.
"""

from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from puna.dtypes import DTYPES
from puna.errors import ConversionError, FormatError
from puna.quants import k, legacy, plain
from puna.quants.codec import Bytes, Codec, Floats

CODECS: dict[str, type[Codec]] = {
    codec.dtype.name: codec
    for codec in (
        *(plain.F32, plain.F16, plain.BF16),
        *(legacy.Q4_0, legacy.Q4_1, legacy.Q5_0, legacy.Q5_1, legacy.Q8_0),
        *(k.Q2_K, k.Q3_K, k.Q4_K, k.Q5_K, k.Q6_K, k.Q8_K),
    )
}
"""Every type with a codec, by name."""

CHUNK = 1 << 16
"""Weights handled at once: a handful of F32 arrays of this size stay in a core's cache."""

__all__ = ["CODECS", "dequantize", "quantize"]


def quantize(array: NDArray[np.floating], name: str, imatrix: ArrayLike | None = None) -> NDArray[np.uint8]:
    """Encode float `array` (..., columns) as type `name`: uint8 (..., bytes per row).

    `imatrix` weighs the error of each column: (columns,), or (shape[0], columns) for stacked experts. Types that have
    no use for it (F32 F16 BF16 Q8_0 Q8_K) ignore it, as ggml does. ConversionError where the type cannot be written,
    a row is no whole number of blocks, a value is not finite (block types only), or a scale exceeds F16.
    """
    codec = _codec(name, "quantize")
    if not codec.encodes:
        raise ConversionError(f"quantize: {name} can be read but not yet written; {_names(True)} would work")
    array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ConversionError(f"quantize {name}: the array is {array.dtype}; float16, float32 or float64 would work")
    if array.ndim == 0:
        raise ConversionError(f"quantize {name}: a scalar has no rows; an array of at least one dimension would work")
    _check_row(codec, array.shape)
    weights = None if imatrix is None else _weights(codec, array.shape, imatrix)
    return _encode(codec, array, weights)


def dequantize(raw: NDArray[np.generic], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Decode the bytes `raw` (any shape) of type `name`: float32 of `shape`. F32 is a view of `raw`, not a copy.

    FormatError where the number of bytes is not that of the shape, ConversionError for a type without a codec.
    """
    codec = _codec(name, "dequantize")
    data = np.ascontiguousarray(raw).reshape(-1).view(np.uint8)
    expected = codec.dtype.nbytes(tuple(shape))
    if data.size != expected:
        raise FormatError(
            f"dequantize {name}: {data.size} bytes for shape {tuple(shape)}, which takes {expected}; "
            "a matching shape would work"
        )
    if name == "F32":
        return data.view("<f4").reshape(shape)
    blocks = data.view(codec.layout)
    size = codec.dtype.block_size
    out = np.empty((len(blocks), size), np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, len(blocks), CHUNK // size):
            chunk = slice(start, start + CHUNK // size)
            codec.decode(blocks[chunk], out[chunk])
    return out.reshape(shape)


def _codec(name: str, task: str) -> type[Codec]:
    if name in CODECS:
        return CODECS[name]
    known = "is known by size but has no codec yet" if name in DTYPES else "is not a type"
    raise ConversionError(f"{task}: {name!r} {known}; {_names(task == 'quantize')} would work")


def _names(encoding: bool) -> str:
    return ", ".join(name for name, codec in CODECS.items() if codec.encodes or not encoding)


def _check_row(codec: type[Codec], shape: tuple[int, ...]) -> None:
    size, columns = codec.dtype.block_size, shape[-1]
    if columns % size:
        fitting = (name for name, c in CODECS.items() if c.encodes and columns % c.dtype.block_size == 0)
        raise ConversionError(
            f"quantize: {codec.dtype} row of {columns} is not a multiple of the block size {size} (shape {shape}); "
            f"{', '.join(fitting)} would work"
        )


def _weights(codec: type[Codec], shape: tuple[int, ...], imatrix: ArrayLike) -> Floats | None:
    """Return the importance of columns as (experts or 1, blocks per row, block size), or None if it is ignored."""
    if codec.weighted is False:
        return None
    if codec.weighted is None:
        able = ", ".join(name for name, c in CODECS.items() if c.weighted)
        raise ConversionError(
            f"quantize {codec.dtype}: an importance matrix is not supported for this type; "
            f"none, or one of the types {able}, would work"
        )
    matrix = np.asarray(imatrix, np.float32)
    if matrix.shape not in ((shape[-1],), (shape[0], shape[-1])):
        raise ConversionError(
            f"quantize {codec.dtype}: importance matrix of shape {matrix.shape} for an array of shape {shape}; "
            f"({shape[-1]},) or ({shape[0]}, {shape[-1]}) would work"
        )
    if not np.isfinite(matrix).all():
        raise ConversionError(f"quantize {codec.dtype}: the importance matrix has values that are not finite")
    return matrix.reshape(-1, shape[-1] // codec.dtype.block_size, codec.dtype.block_size)


@np.errstate(all="ignore")
def _encode(codec: type[Codec], array: NDArray[np.floating], weights: Floats | None) -> Bytes:
    size = codec.dtype.block_size
    values = np.ascontiguousarray(array).reshape(-1, size)
    out = np.empty(len(values), codec.layout)
    step = CHUNK // size
    for start in range(0, len(values), step):
        chunk = values[start : start + step].astype(np.float32)
        if size > 1 and not np.isfinite(chunk).all():
            raise _not_finite(codec, array)
        out[start : start + step] = codec.encode(chunk, _rows(weights, start, len(chunk), len(values)))
    return out.view(np.uint8).reshape(*array.shape[:-1], codec.dtype.row_bytes(array.shape[-1]))


def _rows(weights: Floats | None, start: int, count: int, total: int) -> Floats | None:
    """Pick the weights of blocks start..start+count out of `total`."""
    if weights is None:
        return None
    block = np.arange(start, start + count)
    experts, per_row, _ = weights.shape
    picked: Floats = weights[block // (total // experts), block % per_row]
    return picked


def _not_finite(codec: type[Codec], array: NDArray[np.floating]) -> ConversionError:
    bad = ~np.isfinite(array.astype(np.float32, copy=False))
    first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
    return ConversionError(
        f"quantize: {codec.dtype} cannot hold NaN or infinity; {int(bad.sum())} of {prod(array.shape)} values are not "
        f"finite, the first ({array[first]}) at {first}; F32, F16 or BF16 would work"
    )
