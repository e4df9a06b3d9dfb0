"""`puna export --mlx`: what is written is read again as the very same model, and what has no way back is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

import puna
from cli.tiny import write_tiny
from golden.cases import CASES
from golden.checkpoints import write_checkpoint
from puna.dtypes import F32
from puna.errors import ConversionError, ModelError, RequestError
from puna.exporting.inverse import MODELS, config_of
from puna.tokenizer import load_tokenizer

EXPORTED = (
    *("llama2", "llama_linear", "llama_yarn", "llama_one_kv", "smollm", "mistral", "mistral_window", "mixtral"),
    *("qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi2", "phi3", "command_r", "cohere2", "olmo2", "olmoe"),
    *("smollm3", "granite", "starcoder2", "glm4", "seed_oss", "hunyuan_dense"),
)
EXACT = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K")
REFUSED = {
    "llama3": "the file's rotary factors are of no settings that published models have",
    "llama_yarn_tuned": "mlx-lm knows no attention factor of yarn",
    "gemma3_tuned": "mlx-lm's gemma3_text has no final_softcap",
    "command_r_plus": "mlx-lm's cohere has no norms of queries and keys",
    "phi3_long": "config.json has no words for this model's rope",
    "gpt2": "'gpt2' has no way back to config.json here; llama, .*have one",
}


@pytest.mark.parametrize("quantize", [None, "Q8_0", "Q4_K", "Q5_1"])
@pytest.mark.parametrize("case", EXPORTED)
def test_what_is_exported_is_read_again_as_the_same_model(case: str, quantize: str | None, tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path / "source", case), tmp_path / "model.gguf", quantize=quantize)
    puna.export(tmp_path / "model.gguf", tmp_path / "out", "mlx")
    puna.convert(tmp_path / "out", tmp_path / "again.gguf", dtype="f32")
    with puna.open_gguf(tmp_path / "model.gguf") as one, puna.open_gguf(tmp_path / "again.gguf") as two:
        assert set(one.tensors) == set(two.tensors)
        for name, tensor in one.tensors.items():
            rounding = 0 if tensor.dtype.name in EXACT else 2**-11  # of float16
            np.testing.assert_allclose(two.tensors[name].numpy(), tensor.numpy(), rtol=rounding, err_msg=name)
        for key in (key for key in one.metadata if key.startswith(one.metadata["general.architecture"])):
            np.testing.assert_array_equal(two.metadata.get(key), one.metadata[key], err_msg=key)
        text = "Why is the sky blue? 12345 naïve"
        assert load_tokenizer(two.metadata).encode(text) == load_tokenizer(one.metadata).encode(text)


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_way_back_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path / "source", case), tmp_path / "model.gguf")
    with pytest.raises((ModelError, ConversionError), match=f"exporting: {REFUSED[case]}"):
        puna.export(tmp_path / "model.gguf", tmp_path / "out", "mlx")
    assert list((tmp_path / "out").iterdir()) == []


def test_every_architecture_that_can_be_exported_has_a_case() -> None:
    from puna import arch

    found = [arch.find_hf(CASES[case]["architectures"][0], CASES[case]) for case in EXPORTED]
    assert {each.name for each in found} == set(MODELS)


def test_matrices_of_codes_have_settings_of_their_own(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path / "source", "qwen2"), tmp_path / "model.gguf", quantize="Q4_K_M")
    puna.export(tmp_path / "model.gguf", tmp_path / "out", "mlx")
    said = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["quantization"]
    with puna.open_gguf(tmp_path / "model.gguf") as file:
        kinds = {name: tensor.dtype for name, tensor in file.tensors.items()}
    bits = {"Q4_K": 4, "Q5_0": 5, "Q8_0": 8, "Q5_K": 5, "Q4_0": 4, "Q5_1": 5}
    expected = bits[kinds["blk.0.ffn_up.weight"].name]
    assert said["model.layers.0.mlp.up_proj"] == {"group_size": 32, "bits": expected}
    assert kinds["blk.0.attn_norm.weight"] is F32
    assert "model.layers.0.input_layernorm" not in said


def test_adapters_are_to_be_merged_first(tmp_path: Path) -> None:
    from dataclasses import replace

    from puna.exporting.mlx import export_mlx
    from puna.opened import open_model

    opened = replace(open_model(write_tiny(tmp_path / "tiny.gguf")), adapters=((tmp_path, 1.0),))
    with pytest.raises(RequestError, match="has adapters; `puna merge` folds them"):
        export_mlx(opened, tmp_path / "out")


def test_a_config_is_read_as_the_hyperparameters_it_was_made_of(tmp_path: Path) -> None:
    model = puna.load(write_checkpoint(tmp_path / "source", "granite"))
    runtime = model._runtime
    config = config_of(runtime.arch, runtime.hparams, runtime.opened.tensors)
    assert config["model_type"] == "granite"
    assert config["logits_scaling"] == pytest.approx(CASES["granite"]["logits_scaling"])
    assert "logit_scale" not in config


def test_a_norm_of_another_program_in_bfloat16_is_written_as_it_is_announced() -> None:
    from puna.dtypes import BF16
    from puna.exporting.inverse import Source
    from puna.exporting.mlx import _parts

    class Norm:
        shape, dtype = (4,), BF16
        raw = (np.array([1.5, 2.0, 0.5, 1.0], np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)

        def numpy(self) -> np.ndarray:
            return np.array([1.5, 2.0, 0.5, 1.0], np.float32)

    (part,) = _parts(Source("norm.weight", Norm(), None, lambda array: array, 1.0))
    made = part.make()
    assert (part.dtype, part.nbytes, made.nbytes) == ("F32", 16, 16)
    assert made.tolist() == [0.5, 1.0, -0.5, 0.0]
