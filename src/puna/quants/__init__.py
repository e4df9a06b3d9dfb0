"""Quantization types: values to blocks and back, exactly as ggml's reference functions. It knows no file and no model.

`quantize` and `dequantize` are the whole interface; `CODECS` is the table of types behind them, `recipe` says which
tensor of a model gets which type. Work is done in chunks, so memory stays at the result plus a few megabytes.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from puna.dtypes import DTYPES
from puna.errors import ConversionError, FormatError
from puna.quants import iq, iq4, k, legacy, microscaling, native, plain, ternary
from puna.quants.codec import Blocks, Bytes, Codec, Floats
from puna.quants.search import sequential_sum

CODECS: dict[str, type[Codec]] = {
    codec.dtype.name: codec
    for codec in (
        *(plain.F32, plain.F16, plain.BF16),
        *(legacy.Q4_0, legacy.Q4_1, legacy.Q5_0, legacy.Q5_1, legacy.Q8_0),
        *(k.Q2_K, k.Q3_K, k.Q4_K, k.Q5_K, k.Q6_K, k.Q8_K),
        *(iq4.IQ4_NL, iq4.IQ4_XS, ternary.TQ1_0, ternary.TQ2_0, ternary.Q1_0, microscaling.MXFP4, microscaling.NVFP4),
        *(iq.IQ1_S, iq.IQ1_M, iq.IQ2_XXS, iq.IQ2_XS, iq.IQ2_S, iq.IQ3_XXS, iq.IQ3_S),
    )
}
"""Every type with a codec, by name."""

CHUNK = 1 << 16
"""Weights handled at once: a handful of F32 arrays of this size stay in a core's cache."""

__all__ = ["CODECS", "dequantize", "quantize"]


def quantize(
    array: NDArray[Any],
    name: str,
    imatrix: ArrayLike | None = None,
    *,
    bf16: bool = False,
    out: NDArray[np.uint8] | None = None,
    isa: str = "auto",
) -> NDArray[np.uint8]:
    """Encode float `array` (..., columns) as type `name`: uint8 (..., bytes per row).

    `imatrix` weighs the error of each column: (columns,), or (shape[0], columns) for stacked experts. Types that have
    no use for it (F32 F16 BF16 Q8_0 TQ1_0 TQ2_0 Q1_0 MXFP4 NVFP4) ignore it, as ggml does. `bf16`: `array` is uint16,
    the bits of BF16. `out` takes the result, contiguous. `isa` is one of `native.ISAS`, or auto: the fastest; the bytes
    are the same. Several threads may each encode some rows of a tensor.

    ConversionError where the type cannot be written, a row is no whole number of blocks, a value is not finite (block
    types only), or a scale exceeds F16 (E4M3 for NVFP4).
    """
    codec = _codec(name, "quantize")
    if not codec.encodes:
        raise ConversionError(f"quantize: {name} can be read but not yet written; {_names(True)} would work")
    array = np.asarray(array)
    if array.dtype != np.uint16 if bf16 else not np.issubdtype(array.dtype, np.floating):
        works = "uint16, the bits of BF16," if bf16 else "float16, float32 or float64"
        raise ConversionError(f"quantize {name}: the array is {array.dtype}; {works} would work")
    if array.ndim == 0:
        raise ConversionError(f"quantize {name}: a scalar has no rows; an array of at least one dimension would work")
    _check_row(codec, array.shape)
    if codec.needs_importance and imatrix is None:
        raise ConversionError(
            f"quantize: {name} needs an importance matrix to be written; one, or another type, would work"
        )
    weights = None if imatrix is None else _weights(codec, array.shape, imatrix)
    out = _room(codec, array.shape, out)
    if array.size and native.encodes(name, isa):
        _encode_natively(codec, array, weights, out, isa)
    elif array.size:
        _encode(codec, array, weights, out)
    return out


def dequantize(
    raw: NDArray[np.generic], name: str, shape: tuple[int, ...], *, isa: str = "auto"
) -> NDArray[np.float32]:
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
    if native.decodes(name, isa):
        native.decode(name, isa, data, out)
    else:
        _decode(codec, blocks, out)
    return out.reshape(shape)


@np.errstate(all="ignore")
def _decode(codec: type[Codec], blocks: Blocks, out: Floats) -> None:
    step = CHUNK // codec.dtype.block_size
    for start in range(0, len(blocks), step):
        codec.decode(blocks[start : start + step], out[start : start + step])


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
    if not codec.weighted:
        return None
    matrix = np.asarray(imatrix, np.float32)
    if matrix.shape not in ((shape[-1],), (shape[0], shape[-1])):
        raise ConversionError(
            f"quantize {codec.dtype}: importance matrix of shape {matrix.shape} for an array of shape {shape}; "
            f"({shape[-1]},) or ({shape[0]}, {shape[-1]}) would work"
        )
    if not np.isfinite(matrix).all():
        raise ConversionError(f"quantize {codec.dtype}: the importance matrix has values that are not finite")
    return matrix.reshape(-1, shape[-1] // codec.dtype.block_size, codec.dtype.block_size)


def _room(codec: type[Codec], shape: tuple[int, ...], out: Bytes | None) -> Bytes:
    """Return `out`, or where there is none a new array, for the bytes of `shape`."""
    shape = *shape[:-1], codec.dtype.row_bytes(shape[-1])
    if out is None:
        return np.empty(shape, np.uint8)
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ConversionError(
            f"quantize {codec.dtype}: the result does not fit into {out.dtype} of shape {out.shape}; "
            f"contiguous uint8 of shape {shape} would work"
        )
    return out


def _encode_natively(codec: type[Codec], array: NDArray[Any], weights: Floats | None, out: Bytes, isa: str) -> None:
    """Encode into `out`: every expert with its weights, and other types than the native code reads by bands."""
    columns = array.shape[-1]
    experts = 1 if weights is None else len(weights)
    source = np.ascontiguousarray(array).reshape(experts, -1, columns)
    target = out.reshape(experts, -1, out.shape[-1])
    band = max(1, BAND // columns) if array.dtype not in NATIVE else source.shape[1]
    for expert, rows in enumerate(source):
        importance = None if weights is None else weights[expert].reshape(-1)
        for start in range(0, len(rows), band):
            part = rows[start : start + band]
            part = part if part.dtype in NATIVE else part.astype(np.float32)
            fault, at = native.encode(
                codec.dtype.name, isa, NATIVE[part.dtype], part, importance, target[expert, start : start + band]
            )
            if fault == native.NOT_FINITE:
                raise _not_finite(codec, array)
            if fault == native.TOO_LARGE:
                raise _too_large(codec, part[at // columns :], importance)


NATIVE = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.uint16): "BF16"}
"""The arrays that native code reads as they are."""

BAND = 1 << 18
"""Weights of other arrays that are converted at once."""


def _too_large(codec: type[Codec], rows: NDArray[Any], weights: Floats | None) -> ConversionError:
    """Find the scale that did not fit again, in the first chunk of `rows`; numpy's error names it."""
    some = rows[: 1 + CHUNK // rows.shape[1]]
    try:
        weights = None if weights is None else weights.reshape(1, -1, codec.dtype.block_size)
        _encode(codec, some, weights, _room(codec, some.shape, None))
    except ConversionError as error:
        return error
    return ConversionError(f"quantize: a block scale is too large for {codec.dtype}; BF16 or F32 would work")


@np.errstate(all="ignore")
def _encode(codec: type[Codec], array: NDArray[Any], weights: Floats | None, out: Bytes) -> None:
    """Encode into `out` with numpy: the definition, and what is used where nothing was compiled."""
    size = codec.dtype.block_size
    values = np.ascontiguousarray(array).reshape(-1, size)
    blocks = out.reshape(-1).view(codec.layout)
    step = CHUNK // size
    columns = array.shape[-1]
    means = _mean_squares(values.reshape(-1, columns)) if codec.by_row and weights is not None else None
    for start in range(0, len(values), step):
        chunk = _floats(values[start : start + step])
        if size > 1 and not (largest := np.abs(chunk).max()) <= codec.largest:
            if not np.isfinite(largest):
                raise _not_finite(codec, array)
            raise ConversionError(
                f"quantize: the block scale of a value of {float(largest):g} exceeds 65504, the largest F16; "
                "BF16 or F32 would work"
            )
        rows = _rows(weights, start, len(chunk), len(values))
        if rows is not None and means is not None:
            row = np.arange(start, start + len(chunk)) * size // columns
            rows *= np.sqrt(means[row, None] + chunk * chunk)
        blocks[start : start + step] = codec.encode(chunk, rows)


def _floats(values: NDArray[Any]) -> Floats:
    """Return a copy as F32, of floats or of the bits of BF16."""
    bits = values.dtype == np.uint16
    floats: Floats = (values.astype(np.uint32) << 16).view(np.float32) if bits else values.astype(np.float32)
    return floats


def _rows(weights: Floats | None, start: int, count: int, total: int) -> Floats | None:
    """Pick the weights of blocks start..start+count out of `total`."""
    if weights is None:
        return None
    block = np.arange(start, start + count)
    experts, per_row, _ = weights.shape
    picked: Floats = weights[block // (total // experts), block % per_row]
    return picked


def _mean_squares(rows: NDArray[Any]) -> Floats:
    """Return the mean square of each row, summed one after the other in F32 as ggml does: (rows,)."""
    columns = rows.shape[1]
    step = max(1, CHUNK // columns)
    means = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), step):
        chunk = _floats(rows[start : start + step])
        means[start : start + step] = sequential_sum(np.ascontiguousarray((chunk * chunk).T)) / np.float32(columns)
    return means


def _not_finite(codec: type[Codec], array: NDArray[Any]) -> ConversionError:
    array = array if array.dtype == np.float32 else _floats(array)
    bad = ~np.isfinite(array)
    first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
    return ConversionError(
        f"quantize: {codec.dtype} cannot hold NaN or infinity; {int(bad.sum())} of {prod(array.shape)} values are not "
        f"finite, the first ({array[first]}) at {first}; F32, F16 or BF16 would work"
    )
