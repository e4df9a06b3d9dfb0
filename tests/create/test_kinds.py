"""Files that go with models are taken for what they are, and told apart from models, wherever a model is wanted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import puna
from cli.tiny import write_tiny
from create.test_adapter_layers import write_lora
from puna.cli.show import PARTS
from puna.create.adapters.merge import merge
from puna.create.source import find_weights
from puna.errors import ConversionError, FormatError, ModelError, ModelNotFound, PunaError
from puna.formats import write_gguf
from puna.formats.gguf_kinds import kind_of
from puna.opened import open_model

LORA = (
    r"lora\.gguf: it is no model but a LoRA adapter; `puna merge BASE lora\.gguf -o OUT` folds it into its base, and "
    r"ADAPTER in a Modelfile or puna\.load\(base, adapters=\[\.\.\.\]\) runs both"
)
MATRIX = r"im\.gguf: it is no model but an importance matrix; --imatrix of what quantizes takes it"

KINDS = {"tiny": [], "lora": ["adapter"], "im": ["imatrix"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tiny(tmp_path / "tiny.gguf")
    write_lora(tmp_path / "lora.gguf", 1)
    write_gguf(tmp_path / "im.gguf", {"general.type": "imatrix"}, [("x.in_sum2", (1, 2), "F32", np.ones((1, 2), "f4"))])
    return tmp_path


@pytest.mark.parametrize(("name", "told"), [("lora.gguf", LORA), ("im.gguf", MATRIX)])
@pytest.mark.parametrize(
    "use",
    [
        puna.load,
        puna.verify,
        lambda path: puna.convert(path, path.with_name("out.gguf"), quantize="Q8_0"),
        lambda path: merge(path, [path.with_name("lora.gguf")], path.with_name("out.gguf")),
    ],
)
def test_what_is_taken_for_a_model_and_is_none_is_told_with_how_it_is_used(
    use: Callable[[Path], object], name: str, told: str, folder: Path
) -> None:
    with pytest.raises(PunaError, match=f"^(verifying |converting )?{told}$"):
        use(folder / name)


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        ({"general.architecture": "llama"}, "model"),
        ({"general.architecture": "llama", "general.type": "model"}, "model"),
        ({"general.architecture": "clip"}, "projector"),
        ({"general.architecture": "clip", "general.type": "mmproj"}, "projector"),
        ({"general.type": "imatrix"}, "imatrix"),
        ({"general.architecture": "qwen2", "general.type": "adapter"}, "adapter"),
    ],
)
def test_the_kind_of_a_file_follows_from_its_metadata(metadata: dict[str, str], kind: str) -> None:
    assert kind_of(metadata) == kind


def test_a_file_without_an_architecture_is_named_once(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", {"general.name": "x"}, [("w", (1,), "F32", np.ones(1, "f4"))])
    with pytest.raises(ModelError, match=r"^x\.gguf: the file has no 'general\.architecture'$"):
        _ = puna.load(tmp_path / "x.gguf").hparams


def test_a_directory_with_an_adapter_of_peft_is_told_to_be_one(folder: Path) -> None:
    (folder / "peft").mkdir()
    (folder / "peft" / "adapter_config.json").write_text("{}")
    (folder / "peft" / "adapter_model.bin").write_bytes(b"PK")
    for use in (puna.load, puna.verify, lambda path: puna.create("m", f"FROM {path}")):
        with pytest.raises(ConversionError, match="peft: it is no model but a LoRA adapter; `puna merge BASE "):
            use(folder / "peft")


def test_of_a_directory_the_one_model_among_adapters_and_matrices_is_meant(folder: Path) -> None:
    assert find_weights(folder) == folder / "tiny.gguf"
    assert puna.load(folder).arch == "llama"


def test_adapters_and_matrices_do_not_count_as_models_of_a_directory(folder: Path) -> None:
    write_tiny(folder / "other.gguf")
    with pytest.raises(ConversionError, match=r"it holds 2 GGUF models, other\.gguf, tiny\.gguf; name one of them"):
        find_weights(folder)
    (folder / "other.gguf").unlink()
    (folder / "tiny.gguf").unlink()
    with pytest.raises(ConversionError, match="it holds GGUF files, but no model; the file of one works"):
        find_weights(folder)


def test_loading_refuses_a_backend_that_does_not_exist(folder: Path) -> None:
    with pytest.raises(PunaError, match="backend 'cuda' is unknown; known: "):
        puna.load(folder / "tiny.gguf", backend="cuda")


def test_loading_refuses_adapters_that_are_missing_or_none(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"opening the adapter .*no\.gguf: there is no such file or directory"):
        puna.load(folder / "tiny.gguf", adapters=[folder / "no.gguf"])
    with pytest.raises(FormatError, match=r"reading tiny\.gguf: 'general\.type' is None"):
        puna.load(folder / "tiny.gguf", adapters=[folder / "tiny.gguf"])


def test_show_names_the_kind_of_what_is_no_model(folder: Path) -> None:
    rows = {name: [line.split() for line in PARTS["summary"](open_model(folder / f"{name}.gguf"))] for name in KINDS}
    assert {name: [row[1] for row in found if row[0] == "kind"] for name, found in rows.items()} == KINDS
