"""Super-blocks of 256: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K. Byte for byte what ggml's reference functions write.

Elements are grouped in order, 16 groups of 16 or 8 groups of 32, each with its own small integer scale. Bits are
spread in stripes: within a stretch of 32 (or 64) bytes, the lowest field of every byte comes first, then the next.

    qs of Q2_K, Q3_K (64):   2 x 32 bytes; byte l of stretch s has elements 128 s + l + (0, 32, 64, 96), 2 bits each
    qs of Q4_K, Q5_K (128):  4 x 32 bytes; byte l of stretch s has elements  64 s + l + (0, 32), 4 bits each
    ql of Q6_K (128):        2 x 64 bytes; byte l of stretch s has elements 128 s + l + (0, 64), 4 bits each
    qh of Q6_K (64):         2 x 32 bytes; byte l of stretch s has elements 128 s + l + (0, 32, 64, 96), 2 bits each
    hmask of Q3_K, qh of Q5_K (32): byte l has elements l + (0, 32, ... 224), 1 bit each
"""

# ruff: noqa: D102, N801 - `decode` and `encode` are described by Codec; a class is named as its type

from dataclasses import dataclass

import numpy as np

from puna import dtypes
from puna.quants.codec import Blocks, Bytes, Codec, Floats, join_bits, split_bits, to_half
from puna.quants.search import (
    Fit,
    Found,
    affine_fit,
    nearest,
    positive_fit,
    sequential_sum,
    stepwise_fit,
    symmetric_fit,
)


def stripes(packed: Bytes, bits: int, stretch: int) -> Bytes:
    """Return the fields of (n, bytes) in element order, (n, elements); `stretch` bytes share one run of stripes."""
    return split_bits(packed.reshape(len(packed), -1, stretch), bits).reshape(len(packed), -1)


def unstripe(fields: Bytes, bits: int, stretch: int) -> Bytes:
    """Undo `stripes`."""
    return join_bits(fields.reshape(len(fields), -1, 8 // bits, stretch), bits).reshape(len(fields), -1)


def scales_and_mins(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Unpack the 12 bytes of Q4_K and Q5_K into 8 scales and 8 minimums of 6 bits.

    byte 0..3    lower 6 bits: scale 0..3      upper 2: bits 4, 5 of scale 4..7
    byte 4..7    lower 6 bits: minimum 0..3    upper 2: bits 4, 5 of minimum 4..7
    byte 8..11   lower 4 bits: bits 0..3 of scale 4..7     upper 4: bits 0..3 of minimum 4..7
    """
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate((first & 63, (third & 15) | ((first >> 6) << 4)), axis=1)
    minimums = np.concatenate((second & 63, (third >> 4) | ((second >> 6) << 4)), axis=1)
    return scales, minimums


def pack_scales(scales: Bytes, minimums: Bytes) -> Bytes:
    """Undo `scales_and_mins`."""
    low = (scales[:, 4:] & 15) | (minimums[:, 4:] << 4)
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = minimums[:, :4] | (minimums[:, 4:] >> 4) << 6
    return np.concatenate((first, second, low), axis=1)


def scaled(scale: Blocks, factors: Bytes) -> Floats:
    """Return scale (n,) in F16 times integer factors (n, groups), as F32 (n, groups, 1)."""
    product: Floats = scale.astype(np.float32)[:, None] * factors.astype(np.float32)
    return product[:, :, None]


def affine(quants: Bytes, scale: Floats, minimum: Floats, out: Floats) -> None:
    """Write scale * q - minimum into `out` (n, 256)."""
    groups = out.reshape(len(out), scale.shape[1], -1)
    np.multiply(quants.reshape(groups.shape), scale, out=groups)
    groups -= minimum


Factors = tuple[Floats, Bytes]
"""A unit per block (n,) and an integer factor per group (n, groups): their products are the scales."""


@dataclass(frozen=True)
class Search:
    """How a type with minimums is encoded: group size, largest quant, largest scale, shifts tried, share of sigma^2."""

    size: int
    top: int
    unit: int
    steps: tuple[float, float, int]
    spread: int
    absolute: bool = False
    capped: bool = False  # ggml limits the factors of Q5_K alone; they exceed `unit` only where a scale is negative

    def __call__(self, values: Floats, weights: Floats | None) -> tuple[Fit, Factors, Factors]:
        """Return the fit of the groups, the factors of their scales, and the factors of their minimums."""
        x, share = by_group(values, self.size), None
        if weights is None:
            fit = affine_fit(x, self.plain_weights(x), self.top, self.steps, self.absolute)
        else:
            w = by_group(spread_weights(values, weights, self.spread), self.size)
            fit, share = affine_fit(x, w, self.top, (-0.9, 0.05, 36)), sequential_sum(w)
        return fit, self.factors(fit.scale, share), self.factors(fit.minimum, share)

    def factors(self, parameter: Floats, share: Floats | None) -> Factors:
        """Express one number per group as small integers; `share` is the weight of each group, or None."""
        groups = 256 // self.size
        if share is None:
            return shares(parameter.reshape(-1, groups), self.unit)
        unit, factors = positive_fit(by_group(parameter, groups), by_group(share, groups), self.unit)
        return unit, np.minimum(factors, self.unit) if self.capped else factors

    def plain_weights(self, x: Floats) -> Floats:
        """Return the weights ggml takes where there is no importance matrix."""
        magnitude: Floats = np.abs(x)
        if self.absolute:
            return magnitude
        deviation: Floats = np.sqrt(sequential_sum(x * x) / np.float32(self.size))
        return deviation + magnitude


class Q2_K(Codec):
    """Two bits in 16 groups of 16: x = d * scale * q - dmin * minimum.

    byte 0             16           80  82     84
         | scales (16) | qs (64)    | d | dmin |
    scales: lower 4 bits the scale, upper 4 the minimum of a group; d, dmin: F16
    """

    dtype = dtypes.Q2_K
    layout = np.dtype([("scales", "u1", (16,)), ("qs", "u1", (64,)), ("d", "<f2"), ("dmin", "<f2")])
    weighted = True
    search = Search(16, 3, 15, (-0.5, 0.1, 15), spread=1, absolute=True)

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        scales = blocks["scales"]
        quants = stripes(blocks["qs"], 2, 32)
        affine(quants, scaled(blocks["d"], scales & 15), scaled(blocks["dmin"], scales >> 4), out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        fit, (d, scales), (dmin, minimums) = cls.search(values, weights)
        out["d"], out["dmin"], out["scales"] = to_half(d), to_half(dmin), scales | minimums << np.uint8(4)
        stored = out["scales"]
        quants = requantize(fit, scaled(out["d"], stored & 15), scaled(out["dmin"], stored >> 4), (0, 3), 0)
        out["qs"] = unstripe(quants, 2, 32)
        return out


class Q3_K(Codec):
    """Three bits in 16 groups of 16: x = d * (scale - 32) * (q - 4).

    byte 0            32          96            108 110
         | hmask (32) | qs (64)   | scales (12) | d |
    q: bits 0, 1 in qs, bit 2 in hmask; d: F16
    scales, 6 bits: byte 0..7  lower 4: bits 0..3 of scale 0..7, upper 4: of scale 8..15
                    byte 8..11 2 bits each: bits 4, 5 of scale i, i + 4, i + 8, i + 12
    """

    dtype = dtypes.Q3_K
    layout = np.dtype([("hmask", "u1", (32,)), ("qs", "u1", (64,)), ("scales", "u1", (12,)), ("d", "<f2")])
    weighted = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        scales = unpack_q3_scales(blocks["scales"])
        quants = stripes(blocks["qs"], 2, 32) | stripes(blocks["hmask"], 1, 32) << np.uint8(2)
        signed = quants.view(np.int8) - np.int8(4)
        scale = scaled(blocks["d"], scales.view(np.int8) - np.int8(32))
        np.multiply(signed.reshape(-1, 16, 16), scale, out=out.reshape(-1, 16, 16))

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        x = by_group(values, 16)
        if weights is None:
            fit: Found = stepwise_fit(x, 4)
            d, scales = q3_scales(fit.scale, None)
        else:
            w = by_group(spread_weights(values, weights, 2), 16)
            fit = symmetric_fit(x, w, 4)
            d, scales = q3_scales(fit.scale, sequential_sum(w))
        out["d"] = to_half(d)
        step = scaled(out["d"], scales.view(np.int8) - np.int8(32))
        quants = requantize(fit, step, None, (-4, 3), 4)
        out["scales"] = np.concatenate((unstripe(scales & 15, 4, 8), unstripe(scales >> 4, 2, 4)), axis=1)
        out["qs"], out["hmask"] = unstripe(quants & 3, 2, 32), unstripe(quants >> 2, 1, 32)
        return out


class Q4_K(Codec):
    """Four bits in 8 groups of 32: x = d * scale * q - dmin * minimum.

    byte 0   2      4             16            144
         | d | dmin | scales (12) | qs (128)    |
    d, dmin: F16; scales: 6-bit scales and minimums, drawn at `scales_and_mins`
    """

    dtype = dtypes.Q4_K
    layout = np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", (12,)), ("qs", "u1", (128,))])
    weighted = True
    search = Search(32, 15, 63, (-1.0, 0.1, 20), spread=2)

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        scales, minimums = scales_and_mins(blocks["scales"])
        quants = stripes(blocks["qs"], 4, 32)
        affine(quants, scaled(blocks["d"], scales), scaled(blocks["dmin"], minimums), out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        out["qs"] = unstripe(encode_45(cls.search, values, weights, out), 4, 32)
        return out


class Q5_K(Codec):
    """Five bits in 8 groups of 32: x = d * scale * q - dmin * minimum.

    byte 0   2      4             16        48           176
         | d | dmin | scales (12) | qh (32) | qs (128)   |
    q: bits 0..3 in qs, bit 4 in qh; d, dmin: F16; scales as in Q4_K
    """

    dtype = dtypes.Q5_K
    layout = np.dtype(
        [("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", (12,)), ("qh", "u1", (32,)), ("qs", "u1", (128,))]
    )
    weighted = True
    search = Search(32, 31, 63, (-0.5, 0.1, 15), spread=2, capped=True)

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        scales, minimums = scales_and_mins(blocks["scales"])
        quants = stripes(blocks["qs"], 4, 32) | stripes(blocks["qh"], 1, 32) << np.uint8(4)
        affine(quants, scaled(blocks["d"], scales), scaled(blocks["dmin"], minimums), out)

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.empty(len(values), cls.layout)
        quants = encode_45(cls.search, values, weights, out)
        out["qh"], out["qs"] = unstripe(quants >> 4, 1, 32), unstripe(quants & 15, 4, 32)
        return out


class Q6_K(Codec):
    """Six bits in 16 groups of 16: x = d * scale * (q - 32).

    byte 0           128        192           208 210
         | ql (128)  | qh (64)  | scales (16) | d |
    q: bits 0..3 in ql, bits 4, 5 in qh; scales: signed bytes; d: F16
    """

    dtype = dtypes.Q6_K
    layout = np.dtype([("ql", "u1", (128,)), ("qh", "u1", (64,)), ("scales", "i1", (16,)), ("d", "<f2")])
    weighted = True

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        quants = stripes(blocks["ql"], 4, 64) | stripes(blocks["qh"], 2, 32) << np.uint8(4)
        signed = quants.view(np.int8) - np.int8(32)
        np.multiply(signed.reshape(-1, 16, 16), scaled(blocks["d"], blocks["scales"]), out=out.reshape(-1, 16, 16))

    @classmethod
    def encode(cls, values: Floats, weights: Floats | None) -> Blocks:
        out = np.zeros(len(values), cls.layout)
        fit = symmetric_fit(by_group(values, 16), None if weights is None else by_group(weights, 16), 32)
        scales = fit.scale.reshape(-1, 16)
        largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1, keepdims=True), axis=1)
        used = np.abs(largest[:, 0]) >= np.float32(1e-15)
        inverse = np.divide(np.float32(-128), largest, where=used[:, None], out=np.ones_like(largest))
        out["d"] = to_half(np.where(used, np.float32(1) / inverse[:, 0], np.float32(0)))
        factors = np.minimum(nearest(inverse * scales), 127)
        out["scales"] = np.where(used[:, None], factors, 0)
        quants = requantize(fit, scaled(out["d"], out["scales"]), None, (-32, 31), 32)
        quants[~used] = 0
        out["ql"], out["qh"] = unstripe(quants & 15, 4, 64), unstripe(quants >> 4, 2, 32)
        return out


class Q8_K(Codec):
    """Eight bits around zero with an F32 scale: x = d * q. ggml's format for activations; never stored in files.

    byte 0   4                   260             292
         | d | qs (256 signed)   | bsums (16)    |
    d: F32; bsums: I16, the sum of each 16 quants (not needed to decode)
    """

    dtype = dtypes.Q8_K
    layout = np.dtype([("d", "<f4"), ("qs", "i1", (256,)), ("bsums", "<i2", (16,))])
    encodes = False

    @classmethod
    def decode(cls, blocks: Blocks, out: Floats) -> None:
        np.multiply(blocks["qs"], blocks["d"][:, None], out=out)


def by_group(values: Floats, size: int) -> Floats:
    """Turn (n, 256) into (size, n * groups): a column is a group, so that sums run over rows, in order."""
    return np.ascontiguousarray(values.reshape(-1, size).T)


def spread_weights(values: Floats, weights: Floats, spread: int) -> Floats:
    """Return importance times sqrt(spread * mean square of the block + x^2), (n, 256)."""
    square = values * values
    mean = np.float32(spread) * sequential_sum(np.ascontiguousarray(square.T)) / np.float32(256)
    weighted: Floats = weights * np.sqrt(mean[:, None] + square)
    return weighted


def shares(parameter: Floats, unit: int) -> Factors:
    """Express (n, groups) in `unit`-ths of each row's largest: (unit (n,), factors); all 0 where none is positive."""
    largest = np.maximum(parameter.max(axis=1, keepdims=True), np.float32(0))
    inverse = np.divide(np.float32(unit), largest, where=largest > 0, out=np.zeros_like(largest))
    factors = np.minimum(nearest(inverse * parameter).astype(np.uint8), unit)
    step: Floats = largest[:, 0] / np.float32(unit)
    return step, factors


def encode_45(search: Search, values: Floats, weights: Floats | None, out: Blocks) -> Bytes:
    """Store the scales of Q4_K or Q5_K into `out` and return the quants (n, 256)."""
    fit, (d, scales), (dmin, minimums) = search(values, weights)
    out["d"], out["dmin"], out["scales"] = to_half(d), to_half(dmin), pack_scales(scales, minimums)
    scales, minimums = scales_and_mins(out["scales"])
    return requantize(fit, scaled(out["d"], scales), scaled(out["dmin"], minimums), (0, search.top), 0)


def unpack_q3_scales(packed: Bytes) -> Bytes:
    """Return the 16 scales 0..63 of Q3_K from their 12 bytes."""
    low, high = stripes(packed[:, :8], 4, 8), stripes(packed[:, 8:], 2, 4)
    scales: Bytes = low | high << np.uint8(4)
    return scales


def q3_scales(scales: Floats, share: Floats | None) -> Factors:
    """Return unit (n,) and factors 0..63 (n, 16) for the group scales of Q3_K; `share` is each group's weight."""
    if share is not None:
        fit = symmetric_fit(by_group(scales, 16), by_group(share, 16), 32)
        return fit.scale, fit.quants(np.ones(len(fit.scale), bool)).T
    scales = scales.reshape(-1, 16)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1, keepdims=True), axis=1)
    used = largest != 0
    inverse = np.divide(np.float32(-32), largest, where=used, out=np.ones_like(largest))
    factors = np.where(used, np.clip(nearest(inverse * scales), -32, 31) + 32, 0)
    return np.where(used, np.float32(1) / inverse, np.float32(0))[:, 0], factors.astype(np.uint8)


def requantize(fit: Found, step: Floats, low: Floats | None, bounds: tuple[int, int], offset: int) -> Bytes:
    """Return quants (n, 256) for the steps as stored, one per group; where one is zero, those that the search found."""
    step = step.reshape(-1)
    zero = step == 0
    shifted = fit.x if low is None else fit.x + low.reshape(-1)
    ratio = shifted / step
    ratio[:, zero] = 0
    quants = (np.clip(nearest(ratio), *bounds) + offset).astype(np.uint8)
    if zero.any():
        quants[:, zero] = fit.quants(zero)
    return np.ascontiguousarray(quants.T).reshape(-1, 256)
