"""Packed weights against what their libraries' code computes, written here as loops over elements.

FP8: transformers integrations/finegrained_fp8.py (Fp8Dequantize), compressed_tensors naive_quantized. GPTQ: AutoGPTQ
qlinear_cuda_old.py, GPTQModel nn_modules/qlinear (PackableQuantLinear). AWQ: AutoAWQ utils/packing_utils.py.
compressed_tensors pack_quantized, nvfp4, mxfp4 and quantization/lifecycle/forward.py. bitsandbytes functional.py.
gpt-oss torch/weights.py. ModelOpt qtensor/nvfp4_tensor.py. MLX backend/cpu/quantized.cpp.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from create.packing import (
    Array,
    Given,
    awq,
    bf16,
    codes_of,
    e2m1,
    e4m3,
    e5m2,
    f8,
    given,
    gptq,
    nearest,
    nibbles,
    prefixed,
    random,
    rows_of_words,
    scales_of,
    value_of,
)
from puna.create.prequantized import Unpacked, plain_config, unpack, unpacked
from puna.errors import ConversionError

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}


def one(said: Mapping[str, Any], tensors: Mapping[str, Given], **config: Any) -> Unpacked:
    """The only tensor that is left, checked to be the same by its bands as by its bytes."""
    (tensor,) = unpack({"quantization_config": said, **config}, tensors).values()
    assert isinstance(tensor, Unpacked)
    np.testing.assert_array_equal(np.concatenate(list(tensor.chunks())), tensor.raw)
    return tensor


def table(shape: tuple[int, ...], value: Callable[..., float], dtype: str = "F32") -> Array:
    """float32 of `shape`: each element computed alone, and rounded to the type."""
    out = np.empty(shape, np.float32)
    for index in np.ndindex(*shape):
        out[index] = nearest(value(*index), dtype)
    return out


def same(tensor: Unpacked, dtype: str, want: Array) -> None:
    assert (tensor.dtype.name, tensor.shape) == (dtype, want.shape)
    np.testing.assert_array_equal(tensor.numpy(), want)


@pytest.fixture(params=["whole", "in bands"])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor is read at once, or a few rows at a time."""
    if request.param == "in bands":
        monkeypatch.setattr(unpacked, "BAND", 70)


bands = pytest.mark.usefixtures("_bands")

# ---- bytes ----------------------------------------------------------------------------------------------------------

FP8 = {"quant_method": "fp8", "weight_block_size": [2, 3]}


def fp8_codes(shape: tuple[int, ...], seed: int = 1) -> Array:
    codes = random(seed).integers(0, 256, shape)
    return np.where(codes & 127 >= 0x7C, 0x38, codes)  # neither NaN nor infinite


@bands
@pytest.mark.parametrize(
    ("scale", "config", "dtype"),
    [
        ("F32", {}, "F32"),
        ("BF16", {}, "BF16"),
        ("F32", {"torch_dtype": "bfloat16"}, "BF16"),
        ("F32", {"text_config": {"dtype": "float16"}}, "F16"),
    ],
)
def test_fp8_blocks_have_a_scale_each_and_the_last_ones_may_be_cut(
    scale: str, config: dict[str, Any], dtype: str
) -> None:
    codes, scales = fp8_codes((5, 7)), scales_of(random(2), (3, 3), scale)
    got = one(FP8, {"a.weight": f8(codes), "a.weight_scale_inv": scales}, **config)
    same(
        got,
        dtype,
        table((5, 7), lambda r, c: np.float32(e4m3(codes[r, c])) * np.float32(value_of(scales, r // 2, c // 3)), dtype),
    )


@bands
@pytest.mark.parametrize(
    ("shape", "where"),
    [
        ((), lambda r: ()),
        ((1,), lambda r: (0,)),
        ((6,), lambda r: (r,)),
        ((6, 1), lambda r: (r, 0)),
    ],
)
@pytest.mark.parametrize(("kind", "decode"), [("F8_E4M3", e4m3), ("F8_E5M2", e5m2)])
@pytest.mark.parametrize("method", ["fp8", "fbgemm_fp8"])
def test_fp8_has_one_scale_or_one_for_each_row(
    shape: tuple[int, ...], where: Callable[[int], tuple[int, ...]], kind: str, decode: Any, method: str
) -> None:
    codes, scales = (
        fp8_codes((6, 4)),
        given(random(3).uniform(0.01, 0.03, shape).astype(np.float32) * np.ones(shape, np.float32)),
    )
    got = one({"quant_method": method}, {"a.weight": f8(codes, kind), "a.weight_scale": scales})
    same(got, "F32", table((6, 4), lambda r, c: np.float32(decode(codes[r, c])) * scales.bits[where(r)]))


@bands
@pytest.mark.parametrize("kind", ["U8", "F8_E8M0"])
def test_fp8_scales_may_be_powers_of_two(kind: str) -> None:
    codes, scales = fp8_codes((4, 64)), given(np.array([[127, 120], [0, 130], [1, 254], [126, 128]], np.uint8), kind)
    got = one({"quant_method": "fp8"}, {"a.weight": f8(codes), "a.weight_scale_inv": scales})
    same(
        got,
        "BF16",
        table((4, 64), lambda r, c: e4m3(codes[r, c]) * 2.0 ** (int(scales.bits[r, c // 32]) - 127), "BF16"),
    )


@bands
def test_fp8_experts_are_stacked_and_have_names_without_an_end() -> None:
    codes, scales = fp8_codes((3, 4, 5)), scales_of(random(4), (3, 2, 2), "F32")
    got = one(FP8, {"experts.up": f8(codes), "experts.up_scale_inv": scales})
    want = table((3, 4, 5), lambda e, r, c: np.float32(e4m3(codes[e, r, c])) * scales.bits[e, r // 2, c // 3])
    same(got, "F32", want)


@bands
def test_modelopt_writes_the_scales_of_blocks_between_axes_of_one() -> None:
    codes, scales = fp8_codes((4, 6)), scales_of(random(5), (2, 1, 3, 1), "F32")
    said = {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}
    got = one(said, {"a.weight": f8(codes), "a.weight_scale": scales, "a.input_scale": given(np.ones(1, np.float32))})
    same(got, "F32", table((4, 6), lambda r, c: np.float32(e4m3(codes[r, c])) * scales.bits[r // 2, 0, c // 2, 0]))


@bands
def test_compressed_int8_may_have_zero_points() -> None:
    codes, zeros = random(6).integers(-128, 128, (4, 6)).astype(np.int8), np.array([[-3], [0], [5], [127]], np.int8)
    scales = scales_of(random(7), (4, 1), "BF16")
    tensors = {"a.weight": given(codes), "a.weight_scale": scales, "a.weight_zero_point": given(zeros)}
    got = one({"quant_method": "compressed-tensors", "format": "int-quantized"}, tensors)
    want = table((4, 6), lambda r, c: (int(codes[r, c]) - int(zeros[r, 0])) * value_of(scales, r, 0), "BF16")
    same(got, "BF16", want)


# ---- integers in words ----------------------------------------------------------------------------------------------


@bands
@pytest.mark.parametrize("order", ["no g_idx", "in order", "by activation"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("bits", "out"), [(2, 48), (3, 64), (4, 40), (8, 36)])
def test_gptq(bits: int, out: int, version: int, order: str) -> None:
    rng, inputs, groups = random(bits), 96, 4
    codes, zeros = codes_of(rng, bits, (out, inputs)), codes_of(rng, bits, (groups, out))
    scales = scales_of(rng, (groups, out))
    index = {"no g_idx": None, "in order": np.arange(inputs) // 24, "by activation": rng.integers(0, groups, inputs)}[
        order
    ]
    group = np.arange(inputs) // 24 if index is None else index
    packed = gptq(codes, zeros, scales.bits, bits, index, less=2 - version)
    said = {**GPTQ, "bits": bits, "group_size": 24, **({"checkpoint_format": "gptq_v2"} if version == 2 else {})}
    got = one(said, prefixed("a.", packed))
    want = lambda r, c: (int(codes[r, c]) - int(zeros[group[c], r])) * float(scales.bits[group[c], r])  # noqa: E731
    same(got, "F16", table((out, inputs), want, "F16"))


@bands
def test_gptq_bits_may_differ_by_module_where_g_idx_tells_the_inputs() -> None:
    rng, index = random(9), np.arange(32) // 16
    codes, zeros, scales = codes_of(rng, 8, (8, 32)), codes_of(rng, 8, (2, 8)), scales_of(rng, (2, 8))
    got = one(GPTQ, prefixed("a.", gptq(codes, zeros, scales.bits, 8, index)))
    want = lambda r, c: (int(codes[r, c]) - int(zeros[index[c], r])) * float(scales.bits[index[c], r])  # noqa: E731
    same(got, "F16", table((8, 32), want, "F16"))


@bands
@pytest.mark.parametrize(("size", "groups"), [(12, 3), (36, 1), (-1, 1)])
def test_awq(size: int, groups: int) -> None:
    rng, out, inputs = random(10), 24, 36
    codes, zeros, scales = (
        codes_of(rng, 4, (out, inputs)),
        codes_of(rng, 4, (groups, out)),
        scales_of(rng, (groups, out)),
    )
    said = {"quant_method": "awq", "bits": 4, "group_size": size, "version": "gemm", "zero_point": True}
    got = one(said, prefixed("a.", awq(codes, zeros, scales.bits)))
    group = lambda c: c * groups // inputs  # noqa: E731
    want = lambda r, c: (int(codes[r, c]) - int(zeros[group(c), r])) * float(scales.bits[group(c), r])  # noqa: E731
    same(got, "F16", table((out, inputs), want, "F16"))


def compressed(bits: int, **more: Any) -> dict[str, Any]:
    groups = {"group_0": {"weights": {"num_bits": bits, "type": "int", **more}, "targets": ["Linear"]}}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups}


def packed_words(
    codes: Array, bits: int, scales: Given, zeros: Given | None = None, index: Array | None = None
) -> dict[str, Given]:
    """Codes are whole in a word: rows are filled up to words."""
    made = {
        "a.weight_packed": given(rows_of_words(codes, bits).view(np.int32)),
        "a.weight_scale": scales,
        "a.weight_shape": given(np.array(codes.shape, np.int64)),
    }
    made |= {} if zeros is None else {"a.weight_zero_point": zeros}
    return made | ({} if index is None else {"a.weight_g_idx": given(index.astype(np.int32))})


@bands
@pytest.mark.parametrize("zero", ["none", "packed", "plain"])
@pytest.mark.parametrize("order", ["in order", "by activation", "unset"])
@pytest.mark.parametrize(("bits", "dtype"), [(4, "F16"), (8, "BF16"), (4, "F32")])
def test_compressed_words(bits: int, dtype: str, order: str, zero: str) -> None:
    rng, out, inputs, groups, half = random(11), 10, 36, 3, 1 << (bits - 1)
    codes, scales = codes_of(rng, bits, (out, inputs)), scales_of(rng, (out, groups), dtype)
    zeros = codes_of(rng, bits, (out, groups)) if zero != "none" else np.full((out, groups), half)
    stored = {
        "none": None,
        "packed": given(rows_of_words(zeros.T, bits).T.copy().view(np.int32)),
        "plain": given((zeros - half).astype(np.int8)),
    }[zero]
    index = {"in order": None, "unset": np.full(inputs, -1), "by activation": rng.permutation(np.arange(inputs) // 12)}[
        order
    ]
    group = index if order == "by activation" else np.arange(inputs) // 12
    assert group is not None
    got = one(compressed(bits), packed_words(codes, bits, scales, stored, index))
    want = lambda r, c: (int(codes[r, c]) - int(zeros[r, group[c]])) * value_of(scales, r, group[c])  # noqa: E731
    same(got, dtype, table((out, inputs), want, dtype))


@bands
@pytest.mark.parametrize("shape", [(10, 1), (1,), ()])
def test_compressed_words_may_have_a_scale_for_each_row_or_one_for_all(shape: tuple[int, ...]) -> None:
    rng = random(12)
    codes, scales = (
        codes_of(rng, 4, (10, 12)),
        given(
            np.full(shape, 0.5, np.float16)
            + (np.arange(np.prod(shape, dtype=int)).reshape(shape) / 8).astype(np.float16)
        ),
    )
    got = one(compressed(4, group_size=-1), packed_words(codes, 4, scales))
    row = lambda r: float(scales.bits[r, 0] if len(shape) == 2 else scales.bits.reshape(-1)[0])  # noqa: E731
    same(got, "F16", table((10, 12), lambda r, c: (int(codes[r, c]) - 8) * row(r), "F16"))


@bands
def test_compressed_groups_of_other_bits_are_told_apart_by_the_shape() -> None:
    rng = random(13)
    said = compressed(4)
    said["config_groups"]["group_1"] = {"weights": {"num_bits": 8}, "targets": ["re:.*a"]}
    codes, scales = codes_of(rng, 8, (4, 12)), scales_of(rng, (4, 1))
    got = one(said, packed_words(codes, 8, scales))
    same(got, "F16", table((4, 12), lambda r, c: (int(codes[r, c]) - 128) * float(scales.bits[r, 0]), "F16"))


# ---- bitsandbytes ---------------------------------------------------------------------------------------------------

BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def bnb(codes: Array, block: int, kind: str, dtype: str, *, nested: int = 0, seed: int = 20) -> dict[str, Given]:
    rng, count = random(seed), codes.size
    flat = np.append(codes.reshape(-1), [0] * (count % 2))
    blocks = -(-count // block)
    state: dict[str, Any] = {"quant_type": kind, "blocksize": block, "dtype": dtype, "shape": list(codes.shape)}
    made = {
        "": given(nibbles(flat, upper_first=True)[:, None]),
        ".quant_map": given(rng.uniform(-1, 1, 16).astype(np.float32)),
    }
    if nested:
        state |= {"nested_blocksize": nested, "nested_dtype": "float32", "nested_offset": 0.0432109}
        made |= {
            ".absmax": given(codes_of(rng, 8, (blocks,)).astype(np.uint8)),
            ".nested_absmax": given(rng.uniform(0.1, 2, -(-blocks // nested)).astype(np.float32)),
            ".nested_quant_map": given(rng.uniform(-1, 1, 256).astype(np.float32)),
        }
    else:
        made[".absmax"] = given(rng.uniform(0.1, 2, blocks).astype(np.float32))
    blob = np.frombuffer(json.dumps(state).encode(), np.uint8)
    return prefixed("a.weight", {**made, f".quant_state.bitsandbytes__{kind}": given(blob)})


def bnb_value(parts: Mapping[str, Given], codes: Array, block: int, nested: int, place: int) -> np.float32:
    absmax = parts["a.weight.absmax"].bits[place // block]
    if nested:
        outer = parts["a.weight.nested_absmax"].bits[place // block // nested]
        absmax = np.float32(parts["a.weight.nested_quant_map"].bits[absmax] * outer) + np.float32(0.0432109)
    return np.float32(parts["a.weight.quant_map"].bits[codes.reshape(-1)[place]] * np.float32(absmax))


@bands
@pytest.mark.parametrize(
    ("kind", "dtype", "short"), [("nf4", "bfloat16", "BF16"), ("fp4", "float16", "F16"), ("nf4", "float32", "F32")]
)
@pytest.mark.parametrize(("shape", "block"), [((6, 32), 64), ((7, 9), 4), ((5, 13), 8)])
@pytest.mark.parametrize("nested", [0, 3])
def test_bitsandbytes_of_four_bits(
    kind: str, dtype: str, short: str, shape: tuple[int, int], block: int, nested: int
) -> None:
    codes = codes_of(random(21), 4, shape)
    parts = bnb(codes, block, kind, dtype, nested=nested)
    want = lambda r, c: float(bnb_value(parts, codes, block, nested, r * shape[1] + c))  # noqa: E731
    same(one(BNB, parts), short, table(shape, want, short))


@bands
def test_bitsandbytes_may_keep_its_bytes_as_another_type() -> None:
    codes = codes_of(random(22), 4, (4, 8))
    parts = bnb(codes, 8, "nf4", "float32")
    want = one(BNB, parts).numpy()
    parts["a.weight"] = given(parts["a.weight"].bits.reshape(-1).view(np.uint16)[:, None], "BF16")
    np.testing.assert_array_equal(one(BNB, parts).numpy(), want)


@bands
def test_bitsandbytes_of_eight_bits() -> None:
    codes, scales = random(23).integers(-127, 128, (5, 6)).astype(np.int8), scales_of(random(24), (5,), "F32")
    tensors = {"a.weight": given(codes), "a.SCB": scales, "a.weight_format": given(np.array(0, np.uint8))}
    got = one({"quant_method": "bitsandbytes", "load_in_8bit": True}, tensors)
    want = lambda r, c: np.float32(np.float32(codes[r, c]) * scales.bits[r]) * np.float32(7.874015718698502e-3)  # noqa: E731
    same(got, "F32", table((5, 6), want))


# ---- four-bit floats ------------------------------------------------------------------------------------------------

EXPONENTS = [0, 1, 2, 100, 126, 127, 128, 140, 250]


def mx(seed: int, *shape: int) -> tuple[Array, Array]:
    """Codes, and exponents for each 32 of them."""
    rng = random(seed)
    return codes_of(rng, 4, shape), rng.choice(EXPONENTS, (*shape[:-1], shape[-1] // 32)).astype(np.uint8)


@bands
@pytest.mark.parametrize(
    ("config", "ends"), [({"quant_method": "mxfp4"}, ("_blocks", "_scales")), (None, (".blocks", ".scales"))]
)
def test_experts_of_gpt_oss(config: dict[str, Any] | None, ends: tuple[str, str]) -> None:
    codes, scales = mx(30, 3, 5, 64)
    tensors = {f"e{ends[0]}": given(nibbles(codes).reshape(3, 5, 2, 16)), f"e{ends[1]}": given(scales)}
    tensors["e_bias"] = given(np.ones((3, 5), np.float32))
    left = unpack({"quantization_config": config} if config else {}, tensors)
    assert list(left) == ["e", "e_bias"]
    want = table((3, 5, 64), lambda e, r, c: e2m1(codes[e, r, c]) * 2.0 ** (int(scales[e, r, c // 32]) - 127), "BF16")
    got = left["e"]
    assert isinstance(got, Unpacked)
    same(got, "BF16", want.swapaxes(1, 2) if config else want)
    assert got.lossless == "MXFP4"


@bands
def test_compressed_mxfp4() -> None:
    codes, scales = mx(31, 5, 64)
    said = {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}
    got = one(said, {"a.weight_packed": given(nibbles(codes)), "a.weight_scale": given(scales)})
    same(got, "BF16", table((5, 64), lambda r, c: e2m1(codes[r, c]) * 2.0 ** (int(scales[r, c // 32]) - 127), "BF16"))
    assert got.lossless == "MXFP4"


@bands
@pytest.mark.parametrize("shape", [(5, 48), (3, 128)])
@pytest.mark.parametrize("of", ["modelopt", "compressed-tensors"])
def test_nvfp4(of: str, shape: tuple[int, int]) -> None:
    codes, local = codes_of(random(32), 4, shape), random(33).integers(0, 0x7F, (shape[0], shape[1] // 16))
    total = np.float32(0.00037 if of == "modelopt" else 2700.7)
    scale = lambda r, c: np.float32(e4m3(local[r, c // 16]))  # noqa: E731
    if of == "modelopt":
        said = {"quant_method": of, "quant_algo": "NVFP4"}
        tensors = {
            "a.weight": given(nibbles(codes)),
            "a.weight_scale": f8(local),
            "a.weight_scale_2": given(np.array(total)),
        }
        tensors |= {"a.input_scale": given(np.array(total)), "a.k_scale": given(np.array(total))}
        want = table(shape, lambda r, c: np.float32(scale(r, c) * total) * np.float32(e2m1(codes[r, c])), "BF16")
    else:
        said = {"quant_method": of, "format": "nvfp4-pack-quantized"}
        tensors = {
            "a.weight_packed": given(nibbles(codes)),
            "a.weight_scale": f8(local),
            "a.weight_global_scale": given(np.array([total])),
        }
        tensors["a.input_global_scale"] = given(np.array([total]))
        want = table(shape, lambda r, c: np.float32(scale(r, c) / total) * np.float32(e2m1(codes[r, c])), "BF16")
    got = one(said, tensors)
    same(got, "BF16", want)
    assert got.lossless == ("NVFP4" if shape[1] == 128 else None)


# ---- MLX ------------------------------------------------------------------------------------------------------------


@bands
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize(("group", "dtype"), [(32, "F16"), (64, "BF16"), (32, "F32")])
def test_mlx_rounds_the_product_and_the_sum(bits: int, group: int, dtype: str) -> None:
    rng, columns = random(bits), 192
    codes, scales, biases = (
        codes_of(rng, bits, (3, columns)),
        *(scales_of(rng, (3, columns // group), dtype) for _ in "ab"),
    )
    tensors = {"a.weight": given(rows_of_words(codes, bits)), "a.scales": scales, "a.biases": biases}
    (got,) = unpack({"quantization": {"bits": bits, "group_size": group}}, tensors).values()
    assert isinstance(got, Unpacked)

    def want(r: int, c: int) -> float:
        product = nearest(float(np.float32(codes[r, c]) * np.float32(value_of(scales, r, c // group))), dtype)
        return float(np.float32(product) + np.float32(value_of(biases, r, c // group)))

    same(got, dtype, table((3, columns), want, dtype))
    assert got.lossless == ("Q4_1" if (bits, dtype) == (4, "F16") else None)


@bands
def test_mlx_modules_may_have_their_own_bits_and_stacked_experts() -> None:
    rng = random(40)
    codes, scales, biases = codes_of(rng, 6, (2, 3, 64)), *(scales_of(rng, (2, 3, 1), "F32") for _ in "ab")
    words = np.stack([rows_of_words(each, 6) for each in codes])
    said = {"bits": 4, "group_size": 32, "m.a": {"bits": 6, "group_size": 64}, "m.b": False}
    plain = given(np.ones((2, 2), np.float32))
    tensors = {"m.a.weight": given(words), "m.a.scales": scales, "m.a.biases": biases, "m.b.weight": plain}
    left = unpack({"quantization": said, "quantization_config": said}, tensors)
    assert list(left) == ["m.a.weight", "m.b.weight"]
    assert left["m.b.weight"] is plain
    want = table(
        (2, 3, 64), lambda e, r, c: np.float32(np.float32(codes[e, r, c]) * scales.bits[e, r, 0]) + biases.bits[e, r, 0]
    )
    np.testing.assert_array_equal(left["m.a.weight"].numpy(), want)


@bands
@pytest.mark.parametrize(
    ("mode", "bits", "group", "code", "scale"),
    [
        ("mxfp4", 4, 32, e2m1, lambda s: 2.0 ** (s - 127)),
        ("nvfp4", 4, 16, e2m1, e4m3),
        ("mxfp8", 8, 32, e4m3, lambda s: 2.0 ** (s - 127)),
    ],
)
def test_mlx_modes_of_floats(mode: str, bits: int, group: int, code: Any, scale: Any) -> None:
    codes = codes_of(random(41), 4, (3, 64)) if bits == 4 else fp8_codes((3, 64))
    scales = random(42).integers(100, 120, (3, 64 // group)).astype(np.uint8)
    got = one(
        {"bits": bits, "group_size": group, "mode": mode},
        {"a.weight": given(rows_of_words(codes, bits)), "a.scales": given(scales)},
    )
    same(got, "BF16", table((3, 64), lambda r, c: code(int(codes[r, c])) * scale(int(scales[r, c // group])), "BF16"))


# ---- what ggml's types hold -----------------------------------------------------------------------------------------


def blocks_of(codes: Array, scales: Array, bits: int) -> Array:
    """Blocks of 32 as ggml has them: the scale, then codes; of four bits the first half in the lower ones."""
    made = []
    for row, scale in zip(codes, scales, strict=True):
        for start in range(0, len(row), 32):
            block = row[start : start + 32]
            body = block[:16] | block[16:] << 4 if bits == 4 else block - 128
            made.append(
                scale[start * len(scale) // len(row)].tobytes()
                + body.astype(np.uint8 if bits == 4 else np.int8).tobytes()
            )
    return np.frombuffer(b"".join(made), np.uint8).reshape(len(codes), -1)


@pytest.mark.parametrize(("bits", "kind"), [(4, "Q4_0"), (8, "Q8_0")])
@pytest.mark.parametrize("group", [32, 64])
def test_symmetrical_integers_of_f16_scales_are_ggml_blocks(bits: int, kind: str, group: int) -> None:
    codes, scales = codes_of(random(50), bits, (3, 128)), scales_of(random(51), (3, 128 // group))
    got = one(compressed(bits), packed_words(codes, bits, scales))
    assert got.lossless == kind
    ours = gguf.quants.dequantize(blocks_of(codes, scales.bits, bits), gguf.GGMLQuantizationType[kind])
    np.testing.assert_array_equal(got.numpy(), ours.astype(np.float16))
    for other in (scales_of(random(51), (3, 128 // group), "BF16"), scales_of(random(52), (3, 8))):
        assert one(compressed(bits), packed_words(codes, bits, other)).lossless is None


def test_mxfp4_is_ggml_blocks() -> None:
    codes, scales = mx(53, 2, 3, 64)
    got = unpack({}, {"e.blocks": given(nibbles(codes).reshape(2, 3, 2, 16)), "e.scales": given(scales)})["e"]
    ours = gguf.quants.dequantize(
        blocks_of(codes.reshape(6, 64), scales.reshape(6, 2), 4), gguf.GGMLQuantizationType.MXFP4
    )
    np.testing.assert_array_equal(got.numpy(), ours.reshape(2, 3, 64))


# ---- what passes through, and what is refused -----------------------------------------------------------------------


def small() -> dict[str, Given]:
    """A GPTQ weight (32, 64) in groups of 32, a plain one, and its bias."""
    rng = random(60)
    packed = gptq(
        codes_of(rng, 4, (32, 64)), codes_of(rng, 4, (2, 32)), scales_of(rng, (2, 32)).bits, 4, np.arange(64) // 32
    )
    return {"n.weight": bf16([1, 2]), **prefixed("a.", packed), "a.bias": bf16([3, 4]), "lm_head.weight": bf16([[5]])}


def test_other_tensors_pass_through_as_they_are() -> None:
    tensors = small()
    left = unpack({"quantization_config": GPTQ}, tensors)
    assert list(left) == ["n.weight", "a.weight", "a.bias", "lm_head.weight"]
    assert all(left[name] is tensors[name] for name in left if name in tensors)
    got = left["a.weight"]
    assert isinstance(got, Unpacked)
    assert set(got.parts) == {"qweight", "qzeros", "scales", "g_idx"}


def test_a_config_without_packing_leaves_everything() -> None:
    tensors = {"a.weight": bf16([1]), "a.input_scale": bf16([2])}
    assert unpack({"quantization_config": None}, tensors) == tensors


def test_the_plain_config_says_nothing_of_packing() -> None:
    config = {"a": 1, "quantization": {}, "text_config": {"b": 2, "quantization_config": GPTQ}}
    assert plain_config(config) == {"a": 1, "text_config": {"b": 2}}


def test_nothing_is_read_before_values_are_asked_for() -> None:
    class Untouched(Given):
        @property
        def raw(self) -> Array:
            raise AssertionError("read")

    tensors = {name: Untouched(each.bits, each.dtype) for name, each in small().items()}
    assert unpack({"quantization_config": GPTQ}, tensors)["a.weight"].shape == (32, 64)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"quant_method": "hqq"}, "'hqq'.*gptq"),
        ({}, "'quant_method': None"),
        ("gptq", "'gptq'.*object"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "'checkpoint_format': 'marlin'.*gptq_v2"),
        ({**GPTQ, "pack_dtype": "int16"}, "'pack_dtype': 'int16'.*int32"),
        ({"quant_method": "awq", "version": "gemv"}, "'version': 'gemv'.*gemm"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "'format': 'marlin-24'.*pack-quantized"),
        ({**compressed(4), "transform_config": {"config_groups": 1}}, "'transform_config'"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "'quant_algo': 'W4A8_AWQ'.*NVFP4"),
        ({"quant_method": "fp8", "expert_dtype": "fp4"}, "'expert_dtype': 'fp4'"),
        ({"bits": 4, "group_size": 64, "mode": "ternary"}, "'mode': 'ternary'.*affine"),
        ({"quant_method": "bitsandbytes"}, "says bitsandbytes, but no tensor"),
    ],
)
def test_a_scheme_or_key_that_is_not_understood_is_named(said: Any, named: str) -> None:
    with pytest.raises(ConversionError, match=f"'quantization_config' .*{named}"):
        unpack({"quantization_config": said}, small())


Change = Callable[[dict[str, Given]], Any]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("a.scales"), r"'a.qweight': there is no 'a.scales'"),
        (lambda t: t.pop("a.qzeros"), r"'a.qweight': there is no 'a.qzeros'"),
        (lambda t: t.update({"a.weight": bf16([1])}), r"'a.weight': it is there twice"),
        (lambda t: t.update({"a.qweight": given(np.zeros((7, 32), np.int32))}), "qweight has 7 rows"),
        (lambda t: t.update({"a.qweight": given(np.zeros((8, 31), np.int32))}), r"qzeros is I32 \(2, 4\)|scales is"),
        (lambda t: t.update({"a.qweight": given(np.zeros((8, 32), np.float32))}), "qweight is F32"),
        (
            lambda t: t.update({"a.scales": given(np.zeros((3, 32), np.float16))}),
            r"qzeros is I32 \(2, 4\); I32 or U32 \(3, 4\)",
        ),
        (lambda t: t.update({"a.scales": given(np.zeros((2, 32), np.int32))}), r"scales is I32"),
        (lambda t: t.update({"a.scales": given(np.zeros(2, np.float16))}), r"two matrices"),
    ],
)
def test_parts_of_gptq_that_do_not_fit_are_named(change: Change, named: str) -> None:
    tensors = small()
    change(tensors)
    with pytest.raises(ConversionError, match=named):
        unpack({"quantization_config": GPTQ}, tensors)


def test_a_group_that_is_not_there_is_named_when_it_is_read() -> None:
    tensors = small() | {"a.g_idx": given(np.full(64, 2, np.int32))}
    with pytest.raises(ConversionError, match=r"'a.weight': its g_idx goes from 2 to 2; 0 to 1"):
        unpack({"quantization_config": GPTQ}, tensors)["a.weight"].numpy()


def zeros(*shape: int, dtype: str = "float16") -> Given:
    return given(np.zeros(shape, dtype))


def fp8_of(*shape: int) -> dict[str, Given]:
    return {"a.weight": f8(np.zeros((4, 6)))} | ({"a.weight_scale": zeros(*shape, dtype="float32")} if shape else {})


def words_of(*scale: int) -> dict[str, Given]:
    return packed_words(np.zeros((4, 9), int), 4, zeros(*scale))


def awq_of(inputs: int) -> dict[str, Given]:
    codes = np.zeros((8, inputs), int)
    return prefixed("a.", awq(codes, np.zeros((2, 8), int), np.ones((2, 8), np.float16)))


def experts_of(last: int, *scales: int) -> dict[str, Given]:
    return {"e_blocks": zeros(2, 3, 4, last, dtype="uint8"), "e_scales": zeros(*scales, dtype="uint8")}


def mlx_of(*scales: int) -> dict[str, Given]:
    return {"a.weight": zeros(2, 4, dtype="uint32")} | ({"a.scales": zeros(*scales)} if scales else {})


@pytest.mark.parametrize(
    ("said", "tensors", "named"),
    [
        (FP8, fp8_of(), "'a.weight': there is no 'a.weight_scale_inv' or 'a.weight_scale'"),
        (FP8, fp8_of(4, 2), r"\(4, 2\) for a weight of \(4, 6\) in blocks of \(2, 3\)"),
        (FP8, fp8_of(3, 2), r"\(3, 2\) for a weight of \(4, 6\)"),
        (FP8, fp8_of(3), r"\(3,\) for a weight of \(4, 6\)"),
        (FP8, fp8_of() | {"a.weight_scale": zeros(2, 2, dtype="int32")}, "scales are I32"),
        (compressed(4), {k: v for k, v in words_of(4, 1).items() if k != "a.weight_shape"}, "no 'a.weight_shape'"),
        (compressed(4), words_of(4, 1) | {"a.weight_shape": zeros(2, dtype="int64")}, r"weight_shape says \(0, 0\)"),
        (compressed(4), words_of(4, 1) | {"a.weight_shape": zeros(3, dtype="int64")}, r"shape is I64 \(3,\)"),
        (compressed(8), words_of(4, 1), "2 words for 9 inputs"),
        (compressed(4, symmetric=False), words_of(4, 1), "not symmetric and there is no weight_zero_point"),
        (
            compressed(4),
            words_of(4, 1) | {"a.weight_zero_point": zeros(2, 1, dtype="int32")},
            r"\(2, 1\); I32 or U32 \(1,",
        ),
        (compressed(4), words_of(4, 2), "9 inputs are no 2 equal groups"),
        (compressed(4), words_of(3, 1), r"scale is F16 \(3, 1\)"),
        ({"quant_method": "awq", "bits": 4, "group_size": 9}, awq_of(12), "2 groups, of 9 each"),
        ({"quant_method": "awq", "bits": 3, "group_size": 6}, awq_of(12), "'bits': 3"),
        ({"quant_method": "awq", "bits": 4}, awq_of(12), "'group_size': None"),
        ({"quant_method": "mxfp4"}, experts_of(8, 2, 3, 4), r"blocks are \(2, 3, 4, 8\)"),
        ({"quant_method": "mxfp4"}, experts_of(16, 2, 3), r"scales is U8 \(2, 3\)"),
        ({"bits": 4, "group_size": 32}, mlx_of(2, 1), "no biases"),
        ({"bits": 4, "group_size": 32}, mlx_of(), "no 'a.scales'"),
        ({"bits": 4, "group_size": 64}, mlx_of(2, 1), "groups of 64 codes"),
        ({"bits": 7, "group_size": 64}, mlx_of(2, 1), "'bits': 7"),
    ],
)
def test_parts_that_do_not_fit_are_named(said: dict[str, Any], tensors: dict[str, Given], named: str) -> None:
    with pytest.raises(ConversionError, match=named):
        unpack({"quantization_config": said}, tensors)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("a.weight.quant_map"), "no 'a.weight.quant_map'"),
        (lambda t: t.pop("a.weight.quant_state.bitsandbytes__nf4"), "bitsandbytes__nf4' or '"),
        (lambda t: t.update({"a.weight.absmax": given(np.ones(5, np.uint8))}), r"absmax is U8 \(5,\); U8 \(4,\)"),
        (lambda t: t.pop("a.weight.nested_absmax"), "no nested_absmax"),
        (lambda t: t.update({"a.weight": given(np.zeros((7, 1), np.uint8))}), "7 bytes of codes"),
        (lambda t: t.update(blob({"shape": [0, 8]})), "0 is no size"),
        (lambda t: t.update(blob({"blocksize": 0})), "0 is no size"),
        (lambda t: t.update(blob({"dtype": "int4"})), "int4"),
        (lambda t: t.update(blob({"quant_type": "int4"})), "'int4'"),
        (lambda t: t.update(blob({"shape": [1 << 39, 1 << 39, 1 << 39]})), "bytes of codes"),
        (lambda t: t.update({"a.weight.quant_state.bitsandbytes__nf4": given(np.frombuffer(b"{", np.uint8))}), "JSON"),
    ],
)
def test_a_state_of_bitsandbytes_that_does_not_fit_is_named(change: Change, named: str) -> None:
    tensors = bnb(np.zeros((4, 8), int), 8, "nf4", "float32", nested=3)
    change(tensors)
    with pytest.raises(ConversionError, match=named):
        unpack({"quantization_config": BNB}, tensors)


def blob(change: dict[str, Any]) -> dict[str, Given]:
    state = {"quant_type": "nf4", "blocksize": 8, "dtype": "float32", "shape": [4, 8], "nested_blocksize": 3}
    text = json.dumps({**state, "nested_offset": 0.1, **change}).encode()
    return {"a.weight.quant_state.bitsandbytes__nf4": given(np.frombuffer(text, np.uint8))}


def test_the_layout_of_int8_must_be_rows() -> None:
    tensors = {"a.weight": given(np.zeros((2, 2), np.int8)), "a.SCB": given(np.ones(2, np.float32))}
    tensors["a.weight_format"] = given(np.array(2, np.uint8))
    with pytest.raises(ConversionError, match=r"weight_format is \[2\]; 0, rows, works"):
        unpack({"quantization_config": {"load_in_8bit": True}}, tensors)


# ---- what nobody wrote ----------------------------------------------------------------------------------------------


@drawn(bits=st.integers(1, 8), words=st.integers(1, 3), seed=st.integers(0, 99))
def test_codes_are_one_stream_of_bits(bits: int, words: int, seed: int) -> None:
    codes = codes_of(random(seed), bits, (2, words * 32))
    np.testing.assert_array_equal(unpacked.unpack_bits(rows_of_words(codes, bits), bits), codes)


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 200), st.floats(), st.sampled_from(["4", "gemm", "int32", ""])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "weights"]), inner)),
    max_leaves=4,
)
KEYS = (
    *("bits", "group_size", "mode", "format", "checkpoint_format", "version", "zero_point", "weight_block_size", "a"),
    *("config_groups", "quant_algo", "transform_config", "dynamic", "load_in_4bit"),
)
METHODS = ("fp8", "modelopt", "compressed-tensors", "gptq", "awq", "bitsandbytes", "mxfp4", None)
ALL_PARTS: list[Callable[[], dict[str, Given]]] = [
    small,
    lambda: fp8_of(2, 2),
    lambda: words_of(4, 1),
    lambda: awq_of(12),
    lambda: experts_of(16, 2, 3, 4),
    lambda: mlx_of(2, 1) | {"a.biases": zeros(2, 1)},
    lambda: bnb(np.zeros((4, 8), int), 8, "nf4", "float32", nested=3),
]


@drawn(
    method=st.sampled_from(METHODS),
    said=st.one_of(st.dictionaries(st.sampled_from(KEYS), JUNK), JUNK),
    made=st.sampled_from(ALL_PARTS),
    inner=JUNK,
    name=JUNK,
)
def test_any_config_is_understood_or_refused(
    method: str | None, said: Any, made: Callable[[], dict[str, Given]], inner: Any, name: Any
) -> None:
    whole = {"quant_method": method, **said} if isinstance(said, dict) else said
    config = {"quantization_config": whole, "text_config": inner, "dtype": name}
    with suppress(ConversionError):
        left = unpack(config, made())
        assert all(tensor.numpy().shape == tensor.shape for tensor in left.values() if isinstance(tensor, Unpacked))


@drawn(
    made=st.sampled_from(list(enumerate(ALL_PARTS))),
    place=st.integers(0, 9),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 16, 32]), max_size=4),
    kind=st.sampled_from(["int8", "uint8", "int32", "uint32", "int64", "float16", "float32"]),
)
def test_any_part_fits_or_is_refused(
    made: tuple[int, Callable[[], dict[str, Given]]], place: int, shape: list[int], kind: str
) -> None:
    """One tensor of a checkpoint is any other."""
    number, make = made
    said = [GPTQ, FP8, compressed(4), {"quant_method": "awq", "bits": 4, "group_size": 6}, {"quant_method": "mxfp4"}]
    tensors = make()
    tensors[list(tensors)[place % len(tensors)]] = given(np.ones(shape, kind))
    whole = [*said, {"bits": 4, "group_size": 32}, BNB][number]
    with suppress(ConversionError):
        left = unpack({"quantization_config": whole}, tensors)
        assert all(tensor.numpy().shape == tensor.shape for tensor in left.values() if isinstance(tensor, Unpacked))
