"""gpt-oss: packed experts stay what they are, and Ollama's spelling of the files loads."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

import puna
from arch.run import run
from golden.cases import CASES
from golden.checkpoints import weights_of, write_checkpoint, write_directory, write_safetensors
from puna.opened import open_model

E2M1 = (0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6)
SHAPES = {"gate_up_proj": (6, 512, 256), "down_proj": (6, 256, 256)}
Array = np.ndarray[Any, Any]


def packed(shape: tuple[int, int, int], seed: int) -> tuple[Array, Array]:
    """Blocks (experts, out, in / 32, 16) and scales (experts, out, in / 32)."""
    random = np.random.default_rng(seed)
    experts, out, columns = shape
    blocks = random.integers(0, 256, (experts, out, columns // 32, 16), np.uint8)
    return blocks, random.integers(118, 124, blocks.shape[:3], np.uint8)


def values(blocks: Array, scales: Array) -> Array:
    """What they stand for: (experts, out, in), the lower bits first."""
    pairs = np.stack([blocks & 15, blocks >> 4], -1).reshape(*blocks.shape[:3], 32)
    return (np.array(E2M1)[pairs] * 2.0 ** (scales.astype(float) - 127)[..., None]).reshape(*blocks.shape[:2], -1)


def test_blocks_of_the_published_checkpoint_become_mxfp4_blocks_of_the_same_values(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "plain", "gpt_oss")
    weights = dict(weights_of("gpt_oss"))
    want = {}
    for block in range(2):
        for seed, (part, shape) in enumerate(SHAPES.items()):
            stem = f"model.layers.{block}.mlp.experts.{part}"
            weights[f"{stem}_blocks"], weights[f"{stem}_scales"] = packed(shape, 2 * block + seed)
            whole = values(weights[f"{stem}_blocks"], weights.pop(f"{stem}_scales"))
            weights[f"{stem}_scales"] = packed(shape, 2 * block + seed)[1]
            del weights[stem]
            ours = {"ffn_gate_exps": whole[:, ::2], "ffn_up_exps": whole[:, 1::2]}
            for name, array in (ours if part == "gate_up_proj" else {"ffn_down_exps": whole}).items():
                want[f"blk.{block}.{name}.weight"] = array
    config = {**CASES["gpt_oss"], "quantization_config": {"quant_method": "mxfp4"}}
    folder = write_directory(tmp_path / "packed", config, {}, words=False)
    write_safetensors(folder / "model.safetensors", weights)
    puna.convert(folder, tmp_path / "m.gguf")
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        for name, array in want.items():
            assert file.tensors[name].dtype.name == "MXFP4"
            np.testing.assert_array_equal(file.tensors[name].numpy(), array.astype(np.float32))


def test_a_file_in_ollama_s_spelling_computes_the_same(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path / "hf", "gpt_oss"), tmp_path / "ours.gguf")
    reader = gguf.GGUFReader(tmp_path / "ours.gguf")
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "gptoss")
    for key, field in reader.fields.items():
        if key.startswith("gpt-oss."):
            kind = field.types[0]
            writer.add_key_value(key.replace("gpt-oss", "gptoss"), field.contents(), kind)
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    for block in range(2):
        for ending in ("weight", "bias"):
            parts = [tensors.pop(f"blk.{block}.attn_{part}.{ending}") for part in "qkv"]
            tensors[f"blk.{block}.attn_qkv.{ending}"] = np.concatenate(parts)
    spelled = {"attn_output.": "attn_out.", "attn_sinks.weight": "attn_sinks", "post_attention_norm": "ffn_norm"}
    for name, array in tensors.items():
        for ours, theirs in spelled.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ids = [(ids * 7) % 320 for ids in range(40)]
    ours, theirs = (
        run(open_model(tmp_path / f"{name}.gguf"), "numpy", [(ids, list(range(40)))]) for name in ("ours", "theirs")
    )
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * np.abs(ours).max())
