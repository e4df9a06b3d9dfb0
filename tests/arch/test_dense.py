"""What dense decoders refuse, by name, and an older spelling that they load."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import puna
from arch.run import run
from golden.cases import CASES, ROWS, tokens
from golden.checkpoints import DATA, write_checkpoint
from puna.errors import PunaError
from puna.formats import write_gguf
from puna.opened import open_model


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        ("smollm3", {"no_rope_layers": [1, 0, 1, 0]}, "'no_rope_layers'"),
        ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 2}, "'no_rope_layers'"),
        ("smollm3", {"use_sliding_window": True}, "'use_sliding_window'"),
        ("granite", {"residual_multiplier": 0.0}, "'residual_multiplier'"),
        ("starcoder2", {"mlp_type": "gated"}, "'mlp_type'"),
        ("phi2", {"qk_layernorm": True}, "'qk_layernorm'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "'scale_attn_by_inverse_layer_idx'"),
        ("gpt2", {"activation_function": "relu"}, "'activation_function'"),
        ("gptneox", {"hidden_act": "gelu_fast"}, "'hidden_act'"),
        ("falcon_7b", {"alibi": True}, "'alibi'"),
        ("falcon_7b", {"parallel_attn": False}, "'parallel_attn'"),
        ("cohere2", {"use_qk_norm": True}, "'use_qk_norm'"),
        ("nemotron", {"hidden_act": "silu"}, "'hidden_act'"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "'apply_residual_connection_post_layernorm'"),
        ("phi3_long", {"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]}}, "12 would work"),
    ],
)
def test_a_key_that_changes_numbers_and_is_not_understood_is_named(
    case: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, case, **changes)
    with pytest.raises(PunaError, match=named):
        open_model(tmp_path)


def test_an_older_phi2_with_q_k_and_v_in_one_matrix_computes_the_same(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "phi2")
    puna.convert(tmp_path, tmp_path / "apart.gguf")
    writer = gguf.GGUFWriter(tmp_path / "fused.gguf", "phi2")
    with puna.open_gguf(tmp_path / "apart.gguf") as file:
        for key, value in file.metadata.items():
            if key.startswith("phi2."):
                (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
        arrays = {name: tensor.numpy().copy() for name, tensor in file.tensors.items()}
    for name in [name for name in arrays if ".attn_q." in name]:
        parts = [arrays.pop(name.replace("attn_q", part)) for part in ("attn_q", "attn_k", "attn_v")]
        arrays[name.replace("attn_q", "attn_qkv")] = np.concatenate(parts)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    want = np.load(DATA / "phi2.npy")
    got = run(open_model(tmp_path / "fused.gguf"), "numpy", [(tokens(CASES["phi2"]["vocab_size"]), list(ROWS))])
    assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


def test_ollama_s_files_of_olmo3_compute_the_same(tmp_path: Path) -> None:
    """By its own converter: no sizes of heads, and yarn's whole attention factor."""
    puna.convert(write_checkpoint(tmp_path / "hf", "olmo3"), tmp_path / "m.gguf")
    metadata = {
        key.replace("olmo2.", "olmo3."): value for key, value in open_model(tmp_path / "m.gguf").metadata.items()
    }
    left = ("attention.key_length", "attention.value_length", "rope.dimension_count", "vocab_size")
    metadata = {key: value for key, value in metadata.items() if not key.endswith((*left, "yarn_beta_fast"))}
    metadata |= {"general.architecture": "olmo3", "olmo3.rope.scaling.attn_factor": 0.1 * float(np.log(4)) + 1}
    tensors = [(t.name, t.data.shape, "F32", np.array(t.data)) for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors]
    write_gguf(tmp_path / "ollama.gguf", metadata, tensors)
    want = np.load(DATA / "olmo3.npy")
    got = run(open_model(tmp_path / "ollama.gguf"), "numpy", [(tokens(320), list(ROWS))])
    assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()
