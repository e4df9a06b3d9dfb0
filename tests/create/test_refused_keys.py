"""Keys of config.json that change numbers and are not implemented are errors that name them, for every architecture."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import puna
from golden.cases import CASES
from golden.checkpoints import config_of, write_checkpoint
from puna import arch as archs
from puna.errors import ConversionError, ModelError, PunaError
from puna.formats import write_gguf

ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation")
ROTARY = [
    case
    for case, config in CASES.items()
    if any(field.name == "rope" for field in fields(archs.find_hf(config["architectures"][0], config).hparams))
]


def activations(case: str) -> list[str]:
    """The keys in which a config, or its architecture for it, names an activation."""
    arch, config = archs.find_hf(CASES[case]["architectures"][0], CASES[case]), config_of(case, "published")
    said = {**config, **config.get("text_config", {})}
    return [key for key in ACTIVATIONS if key in said or arch.hf_defaults.get(key) or key in arch.hf_requires]


def read(case: str, changes: dict[str, Any]) -> None:
    """What conversion does with config.json, to that of a case with changes, in the text model's part too."""
    config = {**config_of(case, "published"), **changes}
    if "text_config" in config:
        config["text_config"] = {**config["text_config"], **changes}
    arch = archs.find_hf(config["architectures"][0], config)
    arch.hparams_from_hf(arch.understood(config))


@pytest.mark.parametrize(("case", "key"), [(case, key) for case in CASES for key in activations(case)])
def test_an_unknown_activation_is_named(case: str, key: str) -> None:
    with pytest.raises(ConversionError, match=f"config key '{key}' is 'snake'; what works: "):
        read(case, {key: "snake"})


@pytest.mark.parametrize("case", [case for case in CASES if activations(case)])
def test_an_activation_is_read_at_all(case: str) -> None:
    read(case, {})


@pytest.mark.parametrize("spelled", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("case", ROTARY)
def test_an_unknown_rope_type_is_named(case: str, spelled: str) -> None:
    said = {"rope_type": "spiral", "factor": 2.0, "rope_theta": 10000.0}
    other = "rope_parameters" if spelled == "rope_scaling" else "rope_scaling"
    with pytest.raises(PunaError, match="spiral"):
        read(case, {spelled: said, other: None})


@pytest.mark.parametrize("case", ["llama2", "gemma3", "qwen3", "deepseek_v3", "gpt2", "lfm2", "bert"])
def test_an_unknown_way_of_packing_weights_is_named(case: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", case, quantization_config={"quant_method": "origami", "bits": 4})
    with pytest.raises(ConversionError, match="origami"):
        puna.convert(folder, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "snake"}, "config key 'hidden_act' is 'snake'"),
        ({"rope_scaling": {"rope_type": "spiral", "factor": 2.0}}, "rope type 'spiral' is unknown; known: "),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "twist": 1}}, "rope key 'twist' is not understood"),
    ],
)
def test_converting_and_loading_refuse_alike(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", "llama2", **changes)
    with pytest.raises((ConversionError, ModelError), match=message):
        puna.convert(folder, tmp_path / "out.gguf")
    with pytest.raises((ConversionError, ModelError), match=message):
        puna.load(folder)


def test_an_unknown_rope_type_of_a_gguf_file_is_named(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path / "hf", "llama2"), tmp_path / "known.gguf")
    known = puna.open_gguf(tmp_path / "known.gguf")
    said = {**known.metadata, "llama.rope.scaling.type": "spiral", "llama.rope.scaling.factor": 2.0}
    write_gguf(tmp_path / "spiral.gguf", said, list(known.tensors.items()))
    with pytest.raises(PunaError, match="spiral"):
        puna.load(tmp_path / "spiral.gguf", backend="numpy").logits([1])
