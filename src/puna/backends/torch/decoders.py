"""Stored blocks to float32 on a device: a function for each type, the same bits as `puna.quants` gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from puna.backends.torch.blocks import Tensor, bits_of, fields, split_bits, stripes, table
from puna.quants import CODECS
from puna.quants.iq import SHIFT
from puna.quants.iq_tables import LEVELS, even_signs, grid, shifted_grid, signs
from puna.quants.microscaling import DOUBLED, HALF_E4M3, half_e8m0
from puna.quants.ternary import RUNS

Parts = dict[str, Tensor]
Decode = Callable[[Parts], Tensor]


def decode(raw: Tensor, name: str) -> Tensor:
    """Blocks (n, bytes) of type `name` as float32 (n, elements)."""
    return DECODERS[name](_parts(raw, name))


def _parts(raw: Tensor, name: str) -> Parts:
    layout = CODECS[name].layout
    if name == "IQ2_XXS":  # its parts are records
        words = raw[:, 2:].reshape(len(raw), 8, 8)
        half = words[:, :, 4:].contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF
        return fields(raw[:, :2], np.dtype([("d", "<f2")])) | {"index": words[:, :, :4], "signs": half[..., 0]}
    return fields(raw, layout) if layout.fields else {"": raw}


# ---- plain values and blocks with one scale -------------------------------------------------------------------------


def _q4_0(b: Parts) -> Tensor:
    return (split_bits(b["qs"], 4).reshape(-1, 32).float() - 8) * b["d"]


def _q4_1(b: Parts) -> Tensor:
    return split_bits(b["qs"], 4).reshape(-1, 32).float() * b["d"] + b["m"]


def _five(b: Parts) -> Tensor:
    high = bits_of(b["qh"], 1, 8).reshape(-1, 32)
    return (split_bits(b["qs"], 4).reshape(-1, 32) | high << 4).float()


def _q1_0(b: Parts) -> Tensor:
    return (bits_of(b["qs"], 1, 8).reshape(-1, 128).float() * 2 - 1) * b["d"]


# ---- super-blocks with scales of groups -----------------------------------------------------------------------------


def _scales_and_mins(packed: Tensor) -> tuple[Tensor, Tensor]:
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat((first & 63, (third & 15) | ((first >> 6) << 4)), 1)
    return scales, torch.cat((second & 63, (third >> 4) | ((second >> 6) << 4)), 1)


def _affine(quants: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    groups = quants.reshape(*scale.shape, -1).float() * scale[:, :, None] - minimum[:, :, None]
    return groups.reshape(len(quants), -1)


def _grouped(values: Tensor, scale: Tensor) -> Tensor:
    return (values.reshape(*scale.shape, -1) * scale[:, :, None]).reshape(len(values), -1)


def _q2_k(b: Parts) -> Tensor:
    scale, minimum = b["d"] * (b["scales"] & 15).float(), b["dmin"] * (b["scales"] >> 4).float()
    return _affine(stripes(b["qs"], 2, 32), scale, minimum)


def _q3_k(b: Parts) -> Tensor:
    packed = b["scales"]
    scales = stripes(packed[:, :8], 4, 8) | stripes(packed[:, 8:], 2, 4) << 4
    quants = stripes(b["qs"], 2, 32) | stripes(b["hmask"], 1, 32) << 2
    return _grouped(quants.float() - 4, b["d"] * (scales.float() - 32))


def _q4_k(b: Parts) -> Tensor:
    scales, minimums = _scales_and_mins(b["scales"])
    return _affine(stripes(b["qs"], 4, 32), b["d"] * scales.float(), b["dmin"] * minimums.float())


def _q5_k(b: Parts) -> Tensor:
    scales, minimums = _scales_and_mins(b["scales"])
    quants = stripes(b["qs"], 4, 32) | stripes(b["qh"], 1, 32) << 4
    return _affine(quants, b["d"] * scales.float(), b["dmin"] * minimums.float())


def _q6_k(b: Parts) -> Tensor:
    quants = stripes(b["ql"], 4, 64) | stripes(b["qh"], 2, 32) << 4
    return _grouped(quants.float() - 32, b["d"] * b["scales"].float())


def _tq1_0(b: Parts) -> Tensor:
    found = []
    for first, size, count in RUNS:
        packed = b["qs"][:, first : first + size]
        found += [(packed * 3**digit).to(torch.int32) * 3 >> 8 for digit in range(count)]
    return (torch.cat(found, 1).float() - 1) * b["d"]


def _tq2_0(b: Parts) -> Tensor:
    return (split_bits(b["qs"].reshape(-1, 2, 32), 2).reshape(-1, 256).float() - 1) * b["d"]


# ---- levels and grids -----------------------------------------------------------------------------------------------


def _levels(quants: Tensor, name: str = "levels") -> Tensor:
    levels = LEVELS if name == "levels" else DOUBLED
    return table(name, levels, quants.device)[quants.int()]


def _iq4_xs(b: Parts) -> Tensor:
    low = bits_of(b["scales_l"], 4, 2).reshape(-1, 8).to(torch.int32)
    scales = (low | bits_of(b["scales_h"][:, 0], 2, 8) << 4).float() - 32
    return _grouped(_levels(split_bits(b["qs"].reshape(-1, 8, 16), 4).reshape(-1, 256)), b["d"] * scales)


def _mxfp4(b: Parts) -> Tensor:
    scales = table("e8m0", half_e8m0(np.arange(256, dtype=np.uint8)), b["e"].device)[b["e"].int()]
    return _levels(split_bits(b["qs"], 4).reshape(-1, 32), "e2m1") * scales


def _nvfp4(b: Parts) -> Tensor:
    scales = table("e4m3", HALF_E4M3, b["scales"].device)[b["scales"].int()]
    return _grouped(_levels(split_bits(b["qs"].reshape(-1, 4, 8), 4).reshape(-1, 64), "e2m1"), scales)


def _points(name: str, index: Tensor, scale: Tensor, factors: Tensor | None = None) -> Tensor:
    points = table(name, _grid(name), index.device)[index.reshape(len(scale), -1).int()]
    if factors is not None:
        points = points.reshape(factors.shape) * factors
    return _grouped(points.reshape(len(scale), -1), scale)


def _grid(name: str) -> np.ndarray:
    return shifted_grid(name, SHIFT) if name == "IQ1_S" else grid(name)


def _signs(name: str, index: Tensor) -> Tensor:
    factors = even_signs() if name == "even" else signs()
    return table(name, factors, index.device)[index.reshape(len(index), -1).int()]


def _halves(scales: Tensor) -> Tensor:
    """Nibbles and a half."""
    return 0.5 + bits_of(scales, 4, 2).reshape(len(scales), -1).float()


def _iq2_xxs(b: Parts) -> Tensor:
    words = b["signs"]
    scale = b["d"] * (0.5 + (words >> 28).float()) * 0.25
    return _points("IQ2_XXS", b["index"], scale, _signs("even", bits_of(words, 7, 4)))


def _iq2_xs(b: Parts) -> Tensor:
    scale = b["d"] * _halves(b["scales"]) * 0.25
    return _points("IQ2_XS", b["qs"] & 511, scale, _signs("even", b["qs"] >> 9))


def _iq2_s(b: Parts) -> Tensor:
    high = bits_of(b["qh"], 2, 4).reshape(-1, 32).to(torch.int32)
    scale = b["d"] * _halves(b["scales"]) * 0.25
    return _points("IQ2_S", b["qs"] | high << 8, scale, _signs("signs", b["signs"]))


def _iq3_xxs(b: Parts) -> Tensor:
    words = b["parts"]
    scale = b["d"] * (0.5 + (words >> 28).float()) * 0.5
    return _points("IQ3_XXS", b["qs"], scale, _signs("even", bits_of(words, 7, 4)))


def _iq3_s(b: Parts) -> Tensor:
    high = bits_of(b["qh"], 1, 8).reshape(-1, 64).to(torch.int32)
    scale = b["d"] * (1 + 2 * bits_of(b["scales"], 4, 2).reshape(-1, 8).float())
    return _points("IQ3_S", b["qs"] | high << 8, scale, _signs("signs", b["signs"]))


def _iq1_s(b: Parts) -> Tensor:
    qh = b["qh"]
    scale = b["d"] * (1 + 2 * (qh >> 12 & 7).float())
    high = bits_of(qh, 3, 4) | (qh >> 15 << 3)[:, :, None]
    return _points("IQ1_S", b["qs"] | high.reshape(-1, 32) << 8, scale)


def _iq1_m(b: Parts) -> Tensor:
    packed = b["scales"]
    places = torch.arange(0, 16, 4, dtype=torch.int32, device=packed.device)
    d = (packed >> 12 << places).sum(1).to(torch.int16).view(torch.float16).float()
    factors = 1 + 2 * bits_of(packed, 3, 4).reshape(-1, 16).float()
    high = bits_of(b["qh"], 4, 2).reshape(-1, 32).to(torch.int32)
    return _points("IQ1_S", b["qs"] | high << 8, d[:, None] * factors)


DECODERS: dict[str, Decode] = {
    "F32": lambda b: b[""].contiguous().view(torch.float32),
    "F16": lambda b: b[""].contiguous().view(torch.float16).float(),
    "BF16": lambda b: b[""].contiguous().view(torch.bfloat16).float(),
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": lambda b: (_five(b) - 16) * b["d"],
    "Q5_1": lambda b: _five(b) * b["d"] + b["m"],
    "Q8_0": lambda b: b["qs"].float() * b["d"],
    "Q8_K": lambda b: b["qs"].float() * b["d"],
    "Q1_0": _q1_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
    "IQ4_NL": lambda b: _levels(split_bits(b["qs"], 4).reshape(-1, 32)) * b["d"],
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "NVFP4": _nvfp4,
    "IQ1_S": _iq1_s,
    "IQ1_M": _iq1_m,
    "IQ2_XXS": _iq2_xxs,
    "IQ2_XS": _iq2_xs,
    "IQ2_S": _iq2_s,
    "IQ3_XXS": _iq3_xxs,
    "IQ3_S": _iq3_s,
}
"""The function of each type, given the fields of its blocks."""
