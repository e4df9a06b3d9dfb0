"""Packed weights against transformers' own unpacking, where it needs no other library: FP8, MXFP4 and MLX's packing."""

from typing import Any

import numpy as np
import pytest

from create.packing import Array, bf16, codes_of, f8, given, nibbles, random, rows_of_words
from puna.create.prequantized import unpack

pytestmark = pytest.mark.reference


def tensor(array: Array) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
def test_every_fp8_code_under_blocks(kind: str, wanted: str) -> None:
    import torch
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    codes = np.arange(256).reshape(16, 16).repeat(2, 0).astype(np.uint8)
    scales = random(1).uniform(0.001, 0.1, (4, 2)).astype(np.float32)
    convert: Any = Fp8Dequantize(None)
    weight = tensor(codes).view(getattr(torch, kind))
    want = convert._dequantize_one(weight, tensor(scales), getattr(torch, wanted)).float().numpy()
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [8, 8]}, "torch_dtype": wanted}
    stored = f8(codes, {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}[kind])
    got = unpack(config, {"a.weight": stored, "a.weight_scale_inv": given(scales)})["a.weight"]
    np.testing.assert_array_equal(got.numpy(), want)


def test_fp8_of_bfloat16_scales_and_of_powers_of_two() -> None:
    import torch
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    codes, convert = random(2).integers(0, 127, (8, 64)).astype(np.uint8), Fp8Dequantize(None)
    weight, config = tensor(codes).view(torch.float8_e4m3fn), {"quantization_config": {"quant_method": "fp8"}}
    half, powers = np.array([[0.5, 0.0078125]] * 8, np.float32), random(3).integers(100, 140, (8, 2)).astype(np.uint8)
    for ours, theirs in ((bf16(half), tensor(half).bfloat16()), (given(powers), tensor(powers))):
        want: Any = convert._dequantize_one(weight, theirs)
        got = unpack(config, {"a.weight": f8(codes), "a.weight_scale_inv": ours})["a.weight"]
        assert got.dtype.name == "BF16"
        np.testing.assert_array_equal(got.numpy(), want.float().numpy())


def test_mxfp4_of_gpt_oss() -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    blocks = nibbles(codes_of(random(4), 4, (3, 6, 64))).reshape(3, 6, 2, 16)
    scales = random(5).integers(1, 250, (3, 6, 2)).astype(np.uint8)
    want = convert_moe_packed_tensors(tensor(blocks), tensor(scales)).float().numpy()
    tensors = {"e_blocks": given(blocks), "e_scales": given(scales)}
    got = unpack({"quantization_config": {"quant_method": "mxfp4"}}, tensors)["e"]
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mlx_in_float32(bits: int) -> None:
    from transformers.integrations.metal_quantization import _affine_dequantize_tensor

    words = rows_of_words(codes_of(random(6), bits, (5, 128)), bits)
    scales, biases = (random(seed).uniform(-1, 1, (5, 2)).astype(np.float32) for seed in (7, 8))
    want = _affine_dequantize_tensor(tensor(words.view(np.int32)), tensor(scales), tensor(biases), 64, bits).numpy()
    tensors = {"a.weight": given(words), "a.scales": given(scales), "a.biases": given(biases)}
    got = unpack({"quantization": {"bits": bits, "group_size": 64}}, tensors)["a.weight"]
    np.testing.assert_array_equal(got.numpy(), want)
