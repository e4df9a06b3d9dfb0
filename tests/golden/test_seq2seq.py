"""Encoder-decoders answer as transformers' greedy search does; what their checkpoints and files leave open."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import puna
from create.adapters import folded, modules_of, peft_tensors, write_peft
from golden.checkpoints import config_of, weights_of, write_checkpoint, write_directory
from golden.families.seq2seq import source
from golden.test_golden import RELATIVE, error
from puna.errors import ConversionError, ModelError
from puna.opened import open_model

ANSWERS = {
    ("t5", 7): [133, 133, 133, 133, 133, 133, 133, 133, 133, 39, 39, 39, 82, 82, 82, 308],
    ("t5", 100): [133, 133, 133, 133, 133, 133, 133, 133, 133, 133, 133, 133, 133, 212, 212, 212],
    ("t5_gated", 7): [127, 23, 103, 25, 143, 279, 289, 103, 279, 136, 4, 303, 243, 55, 177, 219],
    ("t5_gated", 100): [95, 102, 108, 17, 77, 130, 82, 291, 282, 149, 178, 30, 183, 154, 95, 31],
    ("umt5", 0): [12, 218, 184, 131, 143, 202, 143, 131, 131, 131, 131, 131, 131, 131, 131, 131],
    ("umt5", 100): [127, 277, 220, 20, 15, 108, 309, 65, 78, 80, 20, 128, 65, 281, 192, 6],
    ("bart", 0): [288] * 15,
    ("bart", 7): [213] * 15,
}
"""What `generate(do_sample=False, num_beams=1)` said after `source([first])`, BART with token 0 forced before it."""


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize(("case", "first"), ANSWERS)
def test_greedy_answers_are_those_of_transformers(case: str, first: int, backend: str, tmp_path: Path) -> None:
    forced = {"forced_bos_token_id": 0} if case == "bart" else {}
    puna.convert(write_checkpoint(tmp_path / "hf", case, **forced), tmp_path / "m.gguf")
    model = puna.load(tmp_path / "m.gguf", backend=backend, kv_type="f32")
    chunks = model.generate(source([first]), temperature=0, ignore_eos=True, num_predict=len(ANSWERS[case, first]))
    assert [token for chunk in chunks for token in chunk.tokens] == ANSWERS[case, first]


@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_how_answers_begin_may_stand_in_either_file(where: str, tmp_path: Path) -> None:
    said = {"decoder_start_token_id": 5, "forced_bos_token_id": 9}
    config = {key: value for key, value in config_of("bart", "published").items() if key not in said}
    write_directory(tmp_path, config, weights_of("bart"), words=False)
    text = {"config.json": {**config, **said}, "generation_config.json": said}[where]
    (tmp_path / where).write_text(json.dumps(text))
    metadata = open_model(tmp_path).metadata
    assert (metadata["bart.decoder_start_token_id"], metadata["bart.forced_bos_token_id"]) == (5, 9)


def test_an_early_config_forces_the_beginning_of_a_text(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bart", force_bos_token_to_be_generated=True, bos_token_id=7)
    assert open_model(tmp_path).metadata["bart.forced_bos_token_id"] == 7
    assert "bart.forced_bos_token_id" not in open_model(write_checkpoint(tmp_path / "plain", "bart")).metadata


def test_encoder_and_decoder_have_as_many_heads(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bart", decoder_attention_heads=8)
    with pytest.raises(ModelError, match="the encoder has 4 heads and the decoder 8"):
        open_model(tmp_path)


@pytest.mark.parametrize("case", ["t5", "t5_gated"])
def test_files_of_llama_cpp_s_converter_load(case: str, tmp_path: Path) -> None:
    """They do not say the scale of logits, which a shared output has; early ones have no number of decoder blocks."""
    puna.convert(write_checkpoint(tmp_path / "hf", case), tmp_path / "m.gguf")
    opened = open_model(tmp_path / "m.gguf")
    left_out = ["t5.logit_scale", "t5.decoder_start_token_id"]
    left_out += ["t5.decoder_block_count"] if case == "t5_gated" else []
    metadata = {key: value for key, value in opened.metadata.items() if key not in left_out}
    assert len(metadata) == len(opened.metadata) - len(left_out)
    assert error(replace(opened, metadata=metadata), case, "numpy") < RELATIVE


EMBEDDINGS = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")


@pytest.mark.parametrize("names", [EMBEDDINGS, EMBEDDINGS[::-1], ("decoder.embed_tokens",), EMBEDDINGS[1:2]])
def test_embeddings_may_have_any_of_their_names_or_all(names: tuple[str, ...], tmp_path: Path) -> None:
    weights = weights_of("t5")
    embedding = weights.pop("shared.weight")
    weights |= {f"{name}.weight": embedding for name in names}
    unused = np.ones((32, 4), np.float32)
    weights["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = unused
    write_directory(tmp_path, config_of("t5", "published"), weights, words=False)
    assert error(open_model(tmp_path), "t5", "numpy") < RELATIVE


@pytest.mark.parametrize(
    "name", ["encoder.block.0.layer.0.SelfAttention.q", "decoder.block.1.layer.1.EncDecAttention.v"]
)
def test_what_the_encoder_needs_is_checked_before_anything_is_converted(name: str, tmp_path: Path) -> None:
    weights = weights_of("t5")
    weights[f"{name}.weight"] = weights[f"{name}.weight"][:, :-1]
    write_directory(tmp_path, config_of("t5", "published"), weights, words=False)
    with pytest.raises(ConversionError, match="the tensors' shapes do not fit"):
        puna.convert(tmp_path, tmp_path / "m.gguf")


def test_an_adapter_changes_encoder_and_decoder(tmp_path: Path) -> None:
    modules = modules_of("t5", targets=(".q", ".v", ".wo"))
    assert {name.split(".")[0] for name in modules} == {"encoder", "decoder"}
    write_checkpoint(tmp_path / "hf", "t5")
    write_peft(tmp_path / "lora", peft_tensors(modules), r=4, lora_alpha=1)
    write_directory(
        tmp_path / "folded", config_of("t5", "published"), folded(weights_of("t5"), modules, 0.25), words=False
    )
    run = {"backend": "numpy", "kv_type": "f32"}
    got = puna.load(tmp_path / "hf", adapters=[tmp_path / "lora"], **run).logits([0, 5, 6], text=source([7]))
    want = puna.load(tmp_path / "folded", **run).logits([0, 5, 6], text=source([7]))
    plain = puna.load(tmp_path / "hf", **run).logits([0, 5, 6], text=source([7]))
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max() < 1e-2 * np.abs(plain - want).max()


def test_an_answer_begins_with_a_token_that_is_there(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "t5", decoder_start_token_id=320)
    with pytest.raises(ModelError, match="answers begin with token 320; ids run from 0 to 319"):
        list(puna.load(tmp_path).generate([5], num_predict=1))
