"""Damaged checkpoints, and metadata whose change would make a model useless: errors name what to look for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from cli.tiny import write_tiny
from golden.checkpoints import weights_of, write_checkpoint, write_safetensors
from puna.create.edits import Text
from puna.errors import ConversionError, ModelError


def damaged(folder: Path, name: str, **changed: Any) -> Path:
    """A checkpoint of llama, some of whose weights are gone (None) or replaced."""
    write_checkpoint(folder, name)
    weights = {**weights_of(name), **{key.replace("__", "."): value for key, value in changed.items()}}
    write_safetensors(folder / "model.safetensors", {key: each for key, each in weights.items() if each is not None})
    return folder


def test_a_missing_tensor_is_named_as_the_checkpoint_calls_it(tmp_path: Path) -> None:
    folder = damaged(tmp_path, "llama2", model__layers__1__mlp__up_proj__weight=None)
    with pytest.raises(ModelError) as error:
        puna.convert(folder, tmp_path / "m.gguf")
    assert str(error.value) == (
        "llama: the file has no tensor 'blk.1.ffn_up.weight'; in the checkpoint 'blk.1.ffn_up.weight' is "
        "model.layers.1.mlp.up_proj.weight"
    )


def test_a_tensor_whose_shape_is_wrong_is_named(tmp_path: Path) -> None:
    shape = weights_of("llama2")["model.layers.1.mlp.up_proj.weight"].shape
    wrong = np.ones((shape[0] * 2, shape[1]), np.float32)
    folder = damaged(tmp_path, "llama2", model__layers__1__mlp__up_proj__weight=wrong)
    with pytest.raises(ConversionError) as error:
        puna.convert(folder, tmp_path / "m.gguf")
    text = str(error.value)
    assert "of blk.1.ffn_up.weight" in text
    assert "'blk.1.ffn_up.weight' is model.layers.1.mlp.up_proj.weight" in text


USELESS = [
    ({"llama.block_count": Text("1")}, "llama.block_count: it could not run: .*nothing claims"),
    ({"llama.block_count": None}, "llama.block_count: it could not run: .*block_count"),
    ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens: it could not run: "),
    ({"tokenizer.ggml.eos_token_id": 1000}, "eos_token_id: it could not run: .*ids run from 0 to 257"),
    ({"llama.attention.head_count": 5}, "head_count: it could not run: "),
]


@pytest.mark.parametrize(("changes", "said"), USELESS)
def test_a_change_that_makes_a_model_useless_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    with pytest.raises(ConversionError, match=f"^setting or removing .*{said}"):
        puna.convert(source, tmp_path / "m.gguf", metadata=changes)
    assert not (tmp_path / "m.gguf").exists()


def test_a_change_that_mends_a_model_or_leaves_it_broken_is_allowed(tmp_path: Path) -> None:
    broken = write_tiny(tmp_path / "tiny.gguf", llama__block_count=3)
    puna.convert(broken, tmp_path / "a.gguf", metadata={"general.name": "x"})
    puna.convert(broken, tmp_path / "b.gguf", metadata={"llama.block_count": 2})
    assert puna.load(tmp_path / "b.gguf").hparams.n_blocks == 2


def test_a_tensor_unlike_those_of_most_blocks_is_named(tmp_path: Path) -> None:
    rows, columns = weights_of("gemma3")["model.layers.2.mlp.gate_proj.weight"].shape
    wrong = np.ones((rows + 32, columns), np.float32)
    folder = damaged(tmp_path, "gemma3", model__layers__2__mlp__gate_proj__weight=wrong)
    with pytest.raises(ConversionError) as error:
        puna.convert(folder, tmp_path / "m.gguf")
    text = str(error.value)
    assert f"blk.2.ffn_gate.weight is {(rows + 32, columns)}, in most blocks {(rows, columns)}" in text
    assert "'blk.2.ffn_gate.weight' is model.layers.2.mlp.gate_proj.weight" in text


def test_metadata_of_a_checkpoint_are_changed_and_checked_too(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", "llama2")
    puna.convert(folder, tmp_path / "m.gguf", metadata={"tokenizer.ggml.add_bos_token": False, "general.name": "x"})
    assert puna.open_gguf(tmp_path / "m.gguf").metadata["general.name"] == "x"
    with pytest.raises(ConversionError, match=r"llama\.block_count: it could not run"):
        puna.convert(folder, tmp_path / "n.gguf", metadata={"llama.block_count": 1})
