"""A tiny Llama whose matrices are packed converts, and computes what it does with the same values unpacked."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import run
from create.packing import (
    Array,
    Given,
    awq,
    codes_of,
    e4m3,
    f8,
    given,
    gptq,
    prefixed,
    random,
    rows_of_words,
    write_model,
)
from golden.cases import CASES, ROWS, tokens
from golden.checkpoints import config_of, weights_of, write_checkpoint
from puna.create.prequantized import Unpacked, unpack
from puna.errors import ConversionError
from puna.formats.safetensors import open_safetensors, write_safetensors
from puna.opened import open_model

CASE = "llama2"
UP = "model.layers.1.mlp.up_proj.weight"
Packed = tuple[dict[str, Given], Array]
"""The tensors of a weight by what follows its module's name, and its values."""


def fp8_blocks(shape: tuple[int, int], rng: np.random.Generator) -> Packed:
    rows, columns = shape
    codes = rng.integers(0, 0x70, shape) | rng.integers(0, 2, shape) << 7
    scales = rng.uniform(0.002, 0.006, (-(-rows // 128), -(-columns // 128))).astype(np.float32)
    spread = np.kron(scales, np.ones((128, 128), np.float32))[:rows, :columns]
    decoded = np.array([e4m3(code) if code & 127 != 127 else 0 for code in range(256)], np.float32)
    return {".weight": f8(codes), ".weight_scale_inv": given(scales)}, decoded[codes] * spread


def groups_of(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Codes of four bits (out, in), zero points and scales (in / 32, out)."""
    out, inputs = shape
    codes = np.clip(rng.normal(8, 3, shape).round(), 0, 15).astype(np.int64)
    scales = rng.uniform(0.02, 0.04, (inputs // 32, out)).astype(np.float16)
    return codes, codes_of(rng, 2, (inputs // 32, out)) + 7, scales


def affine(codes: Array, zeros: Array, scales: Array, group: Array) -> Array:
    return ((codes - zeros.T[:, group]) * scales.T[:, group].astype(np.float32)).astype(np.float16)


def gptq_by_activation(shape: tuple[int, int], rng: np.random.Generator) -> Packed:
    codes, zeros, scales = groups_of(shape, rng)
    index = rng.permutation(np.arange(shape[1]) // 32)
    packed = prefixed(".", gptq(codes, zeros, scales, 4, index))
    return packed, affine(codes, zeros, scales, index)


def awq_gemm(shape: tuple[int, int], rng: np.random.Generator) -> Packed:
    codes, zeros, scales = groups_of(shape, rng)
    return prefixed(".", awq(codes, zeros, scales)), affine(codes, zeros, scales, np.arange(shape[1]) // 32)


def mlx_of_four_bits(shape: tuple[int, int], rng: np.random.Generator) -> Packed:
    codes, _, scales = groups_of(shape, rng)
    scales, biases = scales.T.copy(), (-7.5 * scales.T.astype(np.float32)).astype(np.float16)
    packed = {".weight": given(rows_of_words(codes, 4)), ".scales": given(scales), ".biases": given(biases)}
    group = np.arange(shape[1]) // 32
    product = (codes * scales[:, group].astype(np.float32)).astype(np.float16)
    return packed, product + biases[:, group]


MLX = {"group_size": 32, "bits": 4}
FORMS: dict[str, tuple[dict[str, Any], Callable[[tuple[int, int], np.random.Generator], Packed]]] = {
    "fp8": ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, fp8_blocks),
    "gptq": ({"quantization_config": {"quant_method": "gptq", "bits": 4, "desc_act": True}}, gptq_by_activation),
    "awq": ({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}}, awq_gemm),
    "mlx": ({"quantization": MLX, "quantization_config": MLX}, mlx_of_four_bits),
}


def write_packed(folder: Path, form: str) -> tuple[Path, Path]:
    """The model packed, and the same with its values; as published, but MLX packs embeddings and output too."""
    said, pack = FORMS[form]
    config = {**config_of(CASE, "published"), "torch_dtype": "float32"}
    packed, plain = {}, {}
    for seed, (name, array) in enumerate(weights_of(CASE).items()):
        if array.ndim == 2 and (form == "mlx" or "proj" in name):
            parts, values = pack(array.shape, random(seed))
            packed |= prefixed(name.removesuffix(".weight"), parts)
        else:
            packed[name], values = given(array), array
        plain[name] = given(values)
    for path, settings, tensors in (("packed", {**config, **said}, packed), ("plain", config, plain)):
        write_model(write_checkpoint(folder / path / "model", CASE), settings, tensors)
    return folder / "packed/model", folder / "plain/model"


def contents(path: Path) -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """All that a file says but where it came from."""
    with puna.open_gguf(path) as file:
        metadata = {key: value.data for key, value in file.metadata.exact().items() if key != "puna.source.digest"}
        return metadata, {n: (t.dtype.name, t.shape, t.raw.tobytes()) for n, t in file.tensors.items()}


def logits(model: Path) -> Array:
    return run(open_model(model), "numpy", [(tokens(CASES[CASE]["vocab_size"]), list(ROWS))])


@pytest.mark.parametrize("form", FORMS)
def test_a_packed_model_is_the_plain_one_of_its_values(form: str, tmp_path: Path) -> None:
    packed, plain = write_packed(tmp_path, form)
    puna.convert(packed, tmp_path / "packed.gguf", dtype="f32")
    puna.convert(plain, tmp_path / "plain.gguf", dtype="f32")
    assert contents(tmp_path / "packed.gguf") == contents(tmp_path / "plain.gguf")
    want = logits(tmp_path / "plain.gguf")
    assert np.isfinite(want).all()
    assert want.std() > 0.1
    np.testing.assert_array_equal(logits(tmp_path / "packed.gguf"), want)
    rounding = 0.02 if form == "mlx" else 0  # its codes and scales are Q4_1's, whose products are not rounded to F16
    np.testing.assert_allclose(logits(packed), want, atol=rounding, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_a_packed_model_is_quantized_from_its_values(form: str, tmp_path: Path) -> None:
    for path in write_packed(tmp_path, form):
        puna.convert(path, path.parent / "out.gguf", quantize="Q8_0")
    assert contents(tmp_path / "packed/out.gguf") == contents(tmp_path / "plain/out.gguf")


def test_the_report_tells_the_packed_weight_s_plain_name_and_type(tmp_path: Path) -> None:
    report = puna.convert(write_packed(tmp_path, "gptq")[0], tmp_path / "m.gguf", dtype="bf16")
    (found,) = [tensor for tensor in report.tensors if tensor.name == "blk.1.ffn_up.weight"]
    assert (found.source, found.source_dtype, found.dtype, found.shape) == (UP, "F16", "BF16", (224, 128))


def test_an_older_checkpoint_of_modelopt_says_it_in_a_file_of_its_own(tmp_path: Path) -> None:
    folder, plain = write_packed(tmp_path, "fp8")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    said = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "FP8_PB_WO", "weight_block_size": [128, 128]},
    }
    (folder / "hf_quant_config.json").write_text(json.dumps(said), "utf-8")
    for path in (folder, plain):
        puna.convert(path, path.parent / "out.gguf")
    assert contents(tmp_path / "packed/out.gguf") == contents(tmp_path / "plain/out.gguf")


def test_a_part_that_is_missing_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    folder, _ = write_packed(tmp_path, "mlx")
    tensors = {
        name: given(np.array(t.numpy()))
        for name, t in _opened(folder).items()
        if name != UP.replace("weight", "scales")
    }
    write_model(folder, json.loads((folder / "config.json").read_text("utf-8")), tensors)
    with pytest.raises(ConversionError, match=r"no 'model\.layers\.1\.mlp\.up_proj\.scales'"):
        puna.convert(folder, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def _opened(folder: Path) -> Any:
    return open_safetensors(folder).tensors


def test_reading_a_packed_weight_takes_little_more_than_a_band(tmp_path: Path) -> None:
    rng, shape = random(1), (4096, 2048)
    tensors = {"a.weight": f8(rng.integers(0, 127, shape)), "a.weight_scale_inv": given(np.ones((32, 16), np.float32))}
    words = rng.integers(0, 2**31, (2048 // 8, 4096)).astype(np.int32)
    grouped = {
        "qweight": given(words),
        "qzeros": given(words[:16, :512]),
        "scales": given(np.ones((16, 4096), np.float16)),
    }
    for said, parts in ((FORMS["fp8"][0], tensors), (FORMS["gptq"][0], prefixed("a.", grouped))):
        write_model(tmp_path, {}, parts)
        source = unpack(said, _opened(tmp_path))["a.weight"]
        assert isinstance(source, Unpacked)
        tracemalloc.start()
        size = sum(chunk.size for chunk in source.chunks())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size == source.dtype.nbytes(shape)
        assert peak < 40 << 20


def test_a_file_s_bytes_and_powers_of_two_are_different_types(tmp_path: Path) -> None:
    codes = np.array([0, 1, 127, 254, 255], np.uint8)
    write_safetensors(tmp_path / "m.safetensors", {"a": codes, "b": given(codes, "F8_E8M0")})
    read = {name: (tensor.dtype.name, tensor.numpy().tolist()) for name, tensor in _opened(tmp_path).items()}
    assert read["a"] == ("U8", codes.tolist())
    assert read["b"][0] == "F8_E8M0"
    np.testing.assert_array_equal(read["b"][1], [2.0**-127, 2.0**-126, 1, 2.0**127, np.nan])
