"""Every architecture against what transformers computed for the same weights (data/, recorded by make.py)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import BACKENDS, run
from golden import make
from golden.cases import CASES, ENCODERS, ROWS, WRONG, tokens
from golden.checkpoints import DATA, DIALECTS, weights_of, write_checkpoint
from golden.naive import NAIVE
from puna import arch as archs
from puna.errors import ModelError, PunaError
from puna.opened import Opened, open_model

RELATIVE = 2e-5
"""How far an output may be off, as a part of the largest one: float32 throughout."""


def error(opened: Opened, case: str, backend: str) -> float:
    want = np.load(DATA / f"{case}.npy")
    ids = tokens(CASES[case]["vocab_size"])
    got = run(opened, backend, [(ids, list(ROWS))])
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_a_converted_checkpoint_computes_what_transformers_does(case: str, backend: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, case)
    puna.convert(tmp_path, tmp_path / "model.gguf")
    assert error(open_model(tmp_path / "model.gguf"), case, backend) < RELATIVE


@pytest.mark.parametrize("case", CASES)
def test_a_directory_computes_what_its_conversion_does(case: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, case)
    assert error(open_model(tmp_path), case, "numpy") < RELATIVE


@pytest.mark.parametrize("case", CASES)
def test_both_dialects_of_a_config_give_the_same_file(case: str, tmp_path: Path) -> None:
    written = []
    for dialect in DIALECTS:
        folder = write_checkpoint(tmp_path / dialect / "model", case, dialect)
        puna.convert(folder, folder / "model.gguf")
        with puna.open_gguf(folder / "model.gguf") as file:
            metadata = {key: value.data for key, value in file.metadata.exact().items() if key != "puna.source.digest"}
            written.append((metadata, {name: tensor.raw.tobytes() for name, tensor in file.tensors.items()}))
    assert written[0] == written[1]


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_gemma_inside_a_vision_model_is_read_from_its_prefixed_names(prefix: str, tmp_path: Path) -> None:
    config = {k: v for k, v in CASES["gemma3"].items() if k != "architectures"}
    write_checkpoint(
        tmp_path,
        "gemma3",
        rename=lambda name: prefix + name.removeprefix("model."),
        architectures=["Gemma3ForConditionalGeneration"],
        text_config=config,
        vision_config={"hidden_size": 8},
    )
    assert error(open_model(tmp_path), "gemma3", "numpy") < RELATIVE


@pytest.mark.parametrize("name", ["InternLM3ForCausalLM", "YiForCausalLM", "AquilaForCausalLM", "LLaMAForCausalLM"])
def test_classes_that_are_llama_by_another_name_compute_what_llama_does(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama3", architectures=[name], qkv_bias=True, bias=True)
    assert error(open_model(tmp_path), "llama3", "numpy") < RELATIVE


def test_a_model_of_code_whose_gate_was_left_in_the_matrix_computes_the_same(tmp_path: Path) -> None:
    """As llama.cpp's converter leaves it, in the second half."""
    rename = lambda name: name.replace("up_gated_layer", "gated_layers")  # noqa: E731
    write_checkpoint(tmp_path, "jina_bert_v2_code", rename=rename, _name_or_path="a/copy")
    puna.convert(tmp_path, tmp_path / "model.gguf")
    with puna.open_gguf(tmp_path / "model.gguf") as file:
        assert "blk.0.ffn_gate.weight" not in file.tensors
    assert error(open_model(tmp_path / "model.gguf"), "jina_bert_v2_code", "numpy") < RELATIVE


@pytest.mark.parametrize("case", NAIVE)
def test_the_record_is_what_the_naive_reference_computes(case: str) -> None:
    got = make.outputs(make.model_of(case), tokens(CASES[case]["vocab_size"]))
    assert np.abs(got - np.load(DATA / f"{case}.npy")).max() < 1e-6 * np.abs(got).max()


def test_a_bias_that_has_no_place_is_said_to_be_left_out(tmp_path: Path) -> None:
    report = puna.convert(write_checkpoint(tmp_path / "hf", "nomic_bert_moe"), tmp_path / "m.gguf")
    (warning,) = report.warnings
    assert warning == (
        "'encoder.layers.1.mlp.experts.bias' and 1 more like it are left out, so that outputs differ a little from the "
        "source's: ggml has no place for what is added after experts"
    )


@pytest.mark.parametrize("case", [case for case in ENCODERS if case != "gemma_embedding"])
def test_an_encoder_s_file_says_that_attention_is_both_ways(case: str, tmp_path: Path) -> None:
    """llama.cpp knows it without a word of gemma-embedding alone."""
    puna.convert(write_checkpoint(tmp_path / "hf", case), tmp_path / "m.gguf")
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        assert file.metadata[f"{file.metadata['general.architecture']}.attention.causal"] is False


def test_blocks_that_have_experts_must_be_those_that_the_config_says(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "nomic_bert_moe", moe_every_n_layers=3)
    with pytest.raises(PunaError, match="block 3 has experts, but 'moe_every_n_layers' is 3"):
        error(open_model(tmp_path), "nomic_bert_moe", "numpy")


def test_windows_on_some_blocks_only_are_not_llama(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "ministral", layer_types=["full_attention", "sliding_attention"])
    with pytest.raises(ModelError, match="windows on every block or on none work"):
        open_model(tmp_path)


def test_longrope_s_long_side_is_for_contexts_that_are_longer(tmp_path: Path) -> None:
    """In a context of 192 positions: an original one of 192 is short, one below it is long."""
    write_checkpoint(tmp_path, "phi3_long", original_max_position_embeddings=192)
    assert error(open_model(tmp_path), "phi3_long", "numpy") > 100 * RELATIVE


def test_the_cases_are_hard_enough() -> None:
    """What a case is about must show in its outputs: another rotary base, window or epsilon is far from the record."""
    same = np.load(DATA / "llama2.npy")
    others = [np.load(DATA / f"{case}.npy") for case in ("llama_linear", "llama_yarn", "llama_yarn_tuned")]
    assert len(weights_of("llama2")) == 21
    assert all(np.abs(other - same).max() > 0.1 for other in others)


def differs(case: str, tmp_path: Path, **changes: Any) -> float:
    write_checkpoint(tmp_path, case, **changes)
    return error(open_model(tmp_path), case, "numpy")


@pytest.mark.parametrize(("case", "changes"), WRONG)
def test_a_wrong_config_is_far_from_the_record(case: str, changes: dict[str, Any], tmp_path: Path) -> None:
    assert differs(case, tmp_path, **changes) > 100 * RELATIVE


def test_every_architecture_is_on_record() -> None:
    assert {archs.find_hf(config["architectures"][0], config).name for config in CASES.values()} == set(archs.names())


def test_no_golden_file_is_large() -> None:
    sizes: Sequence[int] = [path.stat().st_size for path in DATA.rglob("*.*")]
    assert max(sizes) < 200_000
