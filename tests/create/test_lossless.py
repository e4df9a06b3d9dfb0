"""Packed weights whose codes and scales a ggml type holds: written as its blocks, which mean the same values."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from create.packing import f8, given, nibbles, random, rows_of_words
from puna.arch import base
from puna.arch.transform import Transform
from puna.create.prequantized import Unpacked, unpack
from puna.create.tensors import Converted, passes, pieces
from puna.dtypes import DTYPES
from puna.errors import ConversionError

Array = np.ndarray[Any, Any]


def only(config: dict[str, Any], tensors: dict[str, Any]) -> Unpacked:
    (tensor,) = unpack(config, tensors).values()
    assert isinstance(tensor, Unpacked)
    return tensor


def codes4(seed: int, *shape: int) -> Array:
    return random(seed).integers(0, 16, shape).astype(np.uint8)


def gpt_oss(config: bool) -> Unpacked:
    codes, scales = codes4(1, 3, 6, 64), random(2).integers(100, 140, (3, 6, 2)).astype(np.uint8)
    ends = ("_blocks", "_scales") if config else (".blocks", ".scales")
    tensors = {f"e{ends[0]}": given(nibbles(codes).reshape(3, 6, 2, 16)), f"e{ends[1]}": given(scales)}
    return only({"quantization_config": {"quant_method": "mxfp4"}} if config else {}, tensors)


def compressed_mx() -> Unpacked:
    said = {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}
    scales = random(4).integers(100, 140, (6, 2)).astype(np.uint8)
    return only(
        {"quantization_config": said},
        {"a.weight_packed": given(nibbles(codes4(3, 6, 64))), "a.weight_scale": given(scales)},
    )


def nv(total: float = 1.0, local: Array | None = None) -> Unpacked:
    local = random(6).integers(1, 0x7F, (6, 8)) if local is None else local
    tensors = {
        "a.weight": given(nibbles(codes4(5, 6, 128))),
        "a.weight_scale": f8(local),
        "a.weight_scale_2": given(np.array(np.float32(total))),
    }
    return only({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, tensors)


def mlx(mode: str, group: int, scales: Array) -> Unpacked:
    tensors = {"a.weight": given(rows_of_words(codes4(7, 6, 128), 4)), "a.scales": given(scales)}
    return only({"quantization": {"bits": 4, "group_size": group, "mode": mode}}, tensors)


def decoded(raw: Array, kind: str, shape: tuple[int, ...]) -> Array:
    """What the gguf package makes of blocks."""
    rows = raw.reshape(*shape[:-1], -1)
    values: Array = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
    return values.reshape(shape)


EXPONENTS = random(8).integers(100, 140, (6, 4)).astype(np.uint8)
CASES: dict[str, tuple[Unpacked, tuple[Transform, ...], str]] = {
    "gpt-oss, OpenAI's": (gpt_oss(False), (), "MXFP4"),
    "gpt-oss, OpenAI's, every second row": (gpt_oss(False), (base.rows(0, 6, 2),), "MXFP4"),
    "gpt-oss": (gpt_oss(True), (base.transpose(),), "MXFP4"),
    "gpt-oss, gate of gate and up": (gpt_oss(True), (base.transpose(), base.rows(0, 6, 2)), "MXFP4"),
    "gpt-oss, up of gate and up": (gpt_oss(True), (base.transpose(), base.rows(1, 6, 2)), "MXFP4"),
    "compressed": (compressed_mx(), (), "MXFP4"),
    "compressed, rows in pairs": (compressed_mx(), (base.permute_rope(1),), "MXFP4"),
    "ModelOpt": (nv(), (), "NVFP4"),
    "mlx mxfp4": (mlx("mxfp4", 32, EXPONENTS), (), "MXFP4"),
    "mlx nvfp4": (mlx("nvfp4", 16, random(9).integers(1, 0x7F, (6, 8)).astype(np.uint8)), (), "NVFP4"),
}


@pytest.mark.parametrize("case", CASES)
def test_blocks_mean_the_same_values(case: str) -> None:
    source, transforms, kind = CASES[case]
    assert passes(source, transforms) == kind
    tensor = Converted("t", (source,), ("s",), DTYPES[kind], transforms)
    plain = Converted("t", (source,), ("s",), DTYPES["F32"], transforms).numpy()
    got = decoded(np.concatenate([piece.make() for piece in pieces(tensor)]), kind, tensor.shape)
    assert got.std() > 0
    if kind == "MXFP4":
        np.testing.assert_array_equal(got, plain)
    else:  # the plain weight is rounded to bfloat16, blocks hold the product
        np.testing.assert_allclose(got, plain, rtol=2**-8)


@pytest.mark.parametrize(
    ("source", "transforms"),
    [
        (gpt_oss(True), ()),
        (gpt_oss(True), (base.rows(0, 2), base.transpose())),
        (gpt_oss(False), (base.transpose(),)),
        (compressed_mx(), (base.plus_one(),)),
        (nv(0.5), ()),
    ],
)
def test_what_blocks_cannot_hold_as_it_is_becomes_values(source: Unpacked, transforms: tuple[Transform, ...]) -> None:
    assert passes(source, transforms) is None


def test_mlx_s_integers_are_q4_1(tmp_path: Path) -> None:
    scales, biases = (random(seed).normal(size=(6, 2)).astype(np.float16) for seed in (10, 11))
    tensors = {
        "a.weight": given(rows_of_words(codes4(7, 6, 128), 4)),
        "a.scales": given(scales),
        "a.biases": given(biases),
    }
    source = only({"quantization": {"bits": 4, "group_size": 64}}, tensors)
    got = decoded(Converted("t", (source,), ("s",), DTYPES["Q4_1"]).raw, "Q4_1", source.shape)
    np.testing.assert_allclose(got, source.numpy(), atol=2e-2)
    codes = codes4(7, 6, 128).astype(np.float32)
    np.testing.assert_array_equal(
        got, codes * np.repeat(scales, 64, 1).astype(np.float32) + np.repeat(biases, 64, 1).astype(np.float32)
    )


@pytest.mark.parametrize("source", [nv(1.0, np.full((6, 8), 0x7F)), nv(1.0, np.full((6, 8), 0x81))])
def test_scales_that_are_nan_or_negative_are_refused(source: Unpacked) -> None:
    with pytest.raises(ConversionError, match=r"'a\.weight': a scale is negative or NaN"):
        _ = Converted("t", (source,), ("s",), DTYPES["NVFP4"]).raw
