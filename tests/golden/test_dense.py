"""Matrices that sentence-transformers puts after pooling: in the network where it has them, else after it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import run
from golden import sentences
from golden.checkpoints import write_checkpoint, write_safetensors
from puna.errors import ConversionError, ModelError
from puna.opened import open_model

TEXT = "the text"


def with_dense(folder: Path, case: str, **settings: Any) -> list[np.ndarray[Any, Any]]:
    """Two matrices behind the mean, and what modules.json says of them."""
    write_checkpoint(folder, case)
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Dense", "3_Dense")]
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    rng, matrices = np.random.default_rng(3), []
    for path, rows, columns in (("2_Dense", 512, 256), ("3_Dense", 256, 512)):
        (folder / path).mkdir()
        sizes = {"in_features": columns, "out_features": rows, "bias": False}
        said = {**sizes, "activation_function": "torch.nn.modules.linear.Identity", **settings}
        (folder / path / "config.json").write_text(json.dumps(said))
        matrices.append(rng.standard_normal((rows, columns), np.float32) / 16)
        write_safetensors(folder / path / "model.safetensors", {"linear.weight": matrices[-1]})
    return matrices


def test_an_embedding_is_the_mean_times_both_matrices(tmp_path: Path) -> None:
    first, second = with_dense(tmp_path / "dense", "gemma_embedding")
    plain = open_model(write_checkpoint(tmp_path / "plain", "gemma_embedding"))
    puna.convert(tmp_path / "dense", tmp_path / "m.gguf")
    model = puna.load(tmp_path / "m.gguf", backend="numpy")
    ids = model.tokenizer.encode(TEXT)
    vector = second @ (first @ run(plain, "numpy", [(ids, list(range(len(ids))))]).mean(0))
    assert np.allclose(model.embed(TEXT, normalize=True)[0], vector / np.linalg.norm(vector), atol=1e-5)
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        assert file.metadata["gemma-embedding.dense_2_feat_out"] == 512
        assert file.metadata["gemma-embedding.dense_3_feat_in"] == 512
        assert file.metadata["gemma-embedding.pooling_type"] == 1


def test_what_is_more_than_a_matrix_and_a_known_activation_is_refused(tmp_path: Path) -> None:
    with_dense(tmp_path / "b", "bert", use_residual=True)
    with pytest.raises(ConversionError, match="use_residual"):
        puna.convert(tmp_path / "b", tmp_path / "m.gguf")
    with_dense(tmp_path / "c", "gemma_embedding", activation_function="torch.nn.modules.activation.Mish")
    with pytest.raises(ConversionError, match="mish"):
        puna.convert(tmp_path / "c", tmp_path / "m.gguf")


def test_a_file_must_have_the_matrices_that_it_says(tmp_path: Path) -> None:
    puna.convert(sentences.write(tmp_path / "hf", "labse"), tmp_path / "m.gguf")
    puna.convert(
        tmp_path / "m.gguf",
        tmp_path / "n.gguf",
        metadata={"puna.embedding.dense_names": None, "puna.embedding.dense_activations": None},
    )
    with pytest.raises(
        ModelError, match=r"no matrices, as its metadata has it; the file has dense_2\.bias, dense_2\.weight"
    ):
        puna.load(tmp_path / "n.gguf", backend="numpy").embed("a")
