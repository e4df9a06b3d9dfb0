"""What files of other converters say of hybrid models in their own way, and what checkpoints are refused for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import run
from golden.cases import CASES, ROWS, tokens
from golden.checkpoints import config_of, weights_of, write_checkpoint, write_directory
from puna import arch as archs
from puna.errors import ModelError, PunaError
from puna.formats import write_gguf
from puna.opened import Opened, open_model

COMMON = {
    **{"block_count": 8, "context_length": 1024, "embedding_length": 64, "feed_forward_length": 128},
    **{"attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5},
    **{"ssm.conv_kernel": 4, "ssm.inner_size": 256, "ssm.state_size": 32, "ssm.time_step_rank": 8},
    **{"ssm.group_count": 2, "rope.dimension_count": 4, "rope.freq_base": 1e7},
}


def read(arch: str, **said: Any) -> Any:
    """The hyperparameters of a file that says so much; `__` stands for a dot."""
    metadata = {**COMMON, **{key.replace("__", "."): value for key, value in said.items()}}
    return archs.find(arch).hparams.from_gguf(arch, {f"{arch}.{key}": value for key, value in metadata.items()})


def is_recorded(opened: Opened, case: str) -> bool:
    want = np.load(Path(__file__).parent.parent / f"golden/data/{case}.npy")
    got = run(opened, "numpy", [(tokens(CASES[case]["vocab_size"]), list(ROWS))])
    return bool(np.abs(got - want).max() < 2e-5 * np.abs(want).max())


def test_every_fourth_block_attends_where_nothing_else_is_said() -> None:
    assert read("qwen3next").recurs == [True, True, True, False] * 2
    assert read("qwen3next", full_attention_interval=2).recurs == [True, False] * 4


def test_blocks_without_kv_heads_recur_in_files_of_ollama() -> None:
    hp = read("qwen35", attention__head_count_kv=[0, 0, 2, 0] * 2)
    assert hp.recurs == [True, True, False, True] * 2
    assert [spec.heads for spec in archs.find("qwen35").caches(hp)] == [0, 0, 2, 0] * 2


def test_kinds_of_fewer_blocks_than_there_are_is_an_error() -> None:
    with pytest.raises(ModelError, match="the kinds of 2 blocks are said, but there are 8"):
        archs.find("qwen3next").caches(read("qwen3next", attention__recurrent_layers=[True, False]))


def test_heads_of_v_are_where_the_file_says() -> None:
    assert (read("qwen35").v_heads_tiled, read("qwen35", ssm__v_head_reordered=False).v_heads_tiled) == (True, False)
    assert not read("qwen3next").v_heads_tiled
    assert read("qwen3next", ssm__v_head_reordered=True).v_heads_tiled


def test_blocks_that_predict_further_tokens_are_not_counted() -> None:
    hp = read("qwen35moe", nextn_predict_layers=1, attention__recurrent_layers=[True, True, True, False] * 2)
    assert (hp.n_blocks, len(archs.find("qwen35moe").caches(hp))) == (7, 7)


def test_qwen35_inside_a_vision_model_is_read_from_its_prefixed_names(tmp_path: Path) -> None:
    config = {key: value for key, value in CASES["qwen35"].items() if key != "architectures"}
    write_checkpoint(
        tmp_path,
        "qwen35",
        rename=lambda name: name.replace("model.", "model.language_model.", 1),
        architectures=["Qwen3_5ForConditionalGeneration"],
        text_config=config,
        vision_config={"hidden_size": 8},
    )
    assert is_recorded(open_model(tmp_path), "qwen35")


def test_gates_over_ups_of_all_experts_in_one_tensor_are_those_of_each_expert(tmp_path: Path) -> None:
    weights, fused = weights_of("qwen35moe"), {}
    count = CASES["qwen35moe"]["num_experts"]
    for block in range(CASES["qwen35moe"]["num_hidden_layers"]):
        experts = f"model.layers.{block}.mlp.experts."
        parts = {
            part: np.stack([weights.pop(f"{experts}{i}.{part}_proj.weight") for i in range(count)])
            for part in ("gate", "up", "down")
        }
        fused[f"{experts}gate_up_proj"] = np.concatenate([parts["gate"], parts["up"]], 1)
        fused[f"{experts}down_proj"] = parts["down"]
    write_directory(tmp_path, config_of("qwen35moe", "published"), weights | fused, words=False)
    puna.convert(tmp_path, tmp_path / "m.gguf")
    assert is_recorded(open_model(tmp_path / "m.gguf"), "qwen35moe")


def test_files_with_q_k_v_and_gate_group_by_group_in_one_tensor_load(tmp_path: Path) -> None:
    """As llama.cpp's first converter for the model left them: as the checkpoint has them."""
    puna.convert(write_checkpoint(tmp_path / "hf", "qwen3next"), tmp_path / "new.gguf")
    with puna.open_gguf(tmp_path / "new.gguf") as file:
        tensors = {name: tensor.numpy() for name, tensor in file.tensors.items()}
        metadata = dict(file.metadata.exact())
    for name in [name for name in tensors if name.endswith("attn_qkv.weight")]:
        del tensors[name], tensors[name.replace("qkv", "gate")]
        block = name.split(".")[1]
        whole = weights_of("qwen3next")[f"model.layers.{block}.linear_attn.in_proj_qkvz.weight"]
        tensors[f"blk.{block}.ssm_in.weight"] = whole
    write_gguf(tmp_path / "old.gguf", metadata, [(name, a.shape, "F32", a) for name, a in tensors.items()])
    assert is_recorded(open_model(tmp_path / "old.gguf"), "qwen3next")


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("falcon_h1", {"mamba_norm_before_gate": True}, "'mamba_norm_before_gate' is true; false works"),
        ("falcon_h1", {"tie_word_embeddings": True}, "'tie_word_embeddings' is 'True'; what works: False"),
        ("falcon_h1", {"projectors_bias": True}, "'projectors_bias' is 'True'; what works"),
        ("granitehybrid", {"residual_multiplier": 0}, "'residual_multiplier' is 0; another number works"),
        ("granitehybrid", {"mamba_n_groups": 2}, "'mamba_n_groups' is '2'; what works: 1"),
        ("granitehybrid", {"position_embedding_type": "alibi"}, "'position_embedding_type' is 'alibi'; what works"),
        ("granitehybrid", {"layer_types": ["mamba", "rwkv"]}, "config key 'layer_types'"),
        ("qwen3next", {"layer_types": ["sliding_attention"] * 2}, "config key 'layer_types'"),
        ("qwen35", {"attn_output_gate": False}, "'attn_output_gate' is 'False'; what works"),
        ("qwen35moe", {"norm_topk_prob": False}, "'norm_topk_prob' is 'False'; what works: True"),
        ("nemotron_h_moe", {"hybrid_override_pattern": "ME?E"}, "config.json names blocks 'ME"),
    ],
)
def test_what_changes_numbers_and_is_not_computed_is_named(
    case: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, case, **changes)
    with pytest.raises(PunaError, match=message):
        open_model(tmp_path)


def test_nemotron_with_experts_is_another_architecture_than_without() -> None:
    named = [archs.find_hf("NemotronHForCausalLM", CASES[case]).name for case in ("nemotron_h", "nemotron_h_moe")]
    assert named == ["nemotron_h", "nemotron_h_moe"]
