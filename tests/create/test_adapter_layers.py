"""ADAPTER in a Modelfile: layers that are checked against the model, kept, shown and run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from cli.tiny import metadata, weights, write_tiny
from create.adapters import matrices, peft_tensors, write_peft
from puna.create.adapters.merge import merge
from puna.create.build import create
from puna.errors import ConversionError, FormatError, ModelError, ModelfileError, PunaError, StoreError
from puna.formats import write_gguf
from puna.opened import open_model
from puna.store import Store

Array = np.ndarray[Any, Any]
UP = "blk.1.ffn_up.weight"
ALPHA = 6


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tiny(tmp_path / "tiny.gguf")
    return Store()


def write_lora(path: Path, seed: int, name: str = UP, **changes: object) -> Path:
    keys = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    keys |= {"adapter.lora.alpha": np.float32(ALPHA), **{k.replace("__", "."): v for k, v in changes.items()}}
    a, b = matrices(weights()[UP].shape, 3, seed)
    write_gguf(path, keys, [(f"{name}.lora_{side}", m.shape, "F32", m) for side, m in (("a", a), ("b", b))])
    return path


def folded(path: Path, *seeds: int) -> Path:
    tensors = weights()
    for seed in seeds:
        a, b = matrices(tensors[UP].shape, 3, seed)
        tensors[UP] = tensors[UP] + ALPHA / 3 * (b @ a)
    write_gguf(path, metadata(), [(name, t.shape, "F32", t) for name, t in tensors.items()])
    return path


def logits(ref: Any) -> Array:
    return puna.load(ref, backend="numpy", kv_type="f32").logits([97, 98, 99, 100]).copy()


def assert_alike(got: Array, want: Array) -> None:
    assert ((got - want) ** 2).sum() < 1e-9 * (want**2).sum()


def test_a_gguf_adapter_becomes_a_layer_and_is_run(store: Store, tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "lora.gguf", 1)
    manifest = create(store, "m", "FROM tiny.gguf\nADAPTER lora.gguf\nSYSTEM s\n", directory=tmp_path)
    assert [layer.kind for layer in manifest.layers] == ["model", "adapter", "system"]
    layer = manifest.layers[1]
    assert layer.media_type == "application/vnd.ollama.image.adapter"
    assert store.blob_path(layer.digest).read_bytes() == adapter.read_bytes()
    assert open_model("m").adapters == ((store.blob_path(layer.digest), 1.0),)
    assert_alike(logits("m"), logits(folded(tmp_path / "folded.gguf", 1)))
    assert np.abs(logits("m") - logits(tmp_path / "tiny.gguf")).max() > 1e-3


def test_a_peft_directory_is_converted(store: Store, tmp_path: Path) -> None:
    ab = matrices(weights()[UP].shape, 3, 1)
    saved = peft_tensors({"model.layers.1.mlp.up_proj": ab})
    write_peft(tmp_path / "tuned", saved, r=3, lora_alpha=ALPHA)
    statuses: list[str] = []
    text = "FROM tiny.gguf\nADAPTER ./tuned\n"
    manifest = create(store, "m", text, directory=tmp_path, on_progress=lambda status, *_: statuses.append(status))
    assert "converting adapter" in statuses
    found = puna.open_gguf(store.blob_path(manifest.layers[1].digest))
    assert found.metadata["general.type"] == "adapter"
    assert_alike(logits("m"), logits(folded(tmp_path / "folded.gguf", 1)))
    assert create(store, "again", text, directory=tmp_path).digest == manifest.digest


def test_adapters_add_up_with_those_of_the_model_it_is_made_from(store: Store, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_lora(tmp_path / f"{seed}.gguf", seed)
    create(store, "one", "FROM tiny.gguf\nADAPTER 1.gguf\n", directory=tmp_path)
    manifest = create(store, "three", "FROM one\nADAPTER 2.gguf\nADAPTER 3.gguf\n", directory=tmp_path)
    assert [layer.kind for layer in manifest.layers] == ["model", "adapter", "adapter", "adapter"]
    assert create(store, "same", "FROM one\nSYSTEM s", directory=tmp_path).layers[1] == manifest.layers[1]
    want = logits(folded(tmp_path / "folded.gguf", 1, 2, 3))
    assert_alike(logits("three"), want)
    merge("three", [], tmp_path / "merged.gguf")
    assert_alike(logits(tmp_path / "merged.gguf"), want)
    with pytest.raises(ModelfileError, match=r"line 2: ADAPTER 1\.gguf: the model has this adapter already"):
        create(store, "twice", "FROM one\nADAPTER 1.gguf\n", directory=tmp_path)


def test_a_digest_of_a_stored_adapter_works(store: Store, tmp_path: Path) -> None:
    write_lora(tmp_path / "lora.gguf", 1)
    first = create(store, "one", "FROM tiny.gguf\nADAPTER lora.gguf\n", directory=tmp_path)
    again = create(store, "two", f"FROM tiny.gguf\nADAPTER @{first.layers[1].digest}\n", directory=tmp_path)
    assert again.layers == first.layers


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("ADAPTER none.gguf", ModelfileError, "there is no .*none.gguf"),
        ("ADAPTER @sha256:" + "0" * 64, ModelfileError, "there is no"),
        ("ADAPTER @sha256:12", StoreError, "not a digest"),
        ("ADAPTER tiny.gguf", FormatError, "'general.type' is None"),
        ("ADAPTER .", ConversionError, "there is no adapter_config.json"),
        ("ADAPTER qwen.gguf", ModelError, "made for 'qwen2', the base is 'llama'"),
        ("ADAPTER elsewhere.gguf", ModelError, "no tensor 'blk.9.ffn_up.weight'"),
        ("ADAPTER norm.gguf", ModelError, "the base's is"),
    ],
)
def test_an_adapter_that_does_not_fit_names_its_line_and_leaves_nothing(
    line: str, kind: type[PunaError], said: str, store: Store, tmp_path: Path
) -> None:
    write_lora(tmp_path / "qwen.gguf", 1, general__architecture="qwen2")
    write_lora(tmp_path / "elsewhere.gguf", 1, "blk.9.ffn_up.weight")
    write_lora(tmp_path / "norm.gguf", 1, "blk.0.ffn_down.weight")
    with pytest.raises(kind, match=said) as found:
        create(store, "m", f"FROM tiny.gguf\n{line}\n", directory=tmp_path)
    assert kind is StoreError or "line 2: ADAPTER" in str(found.value)
    assert not store.models()
    assert not list((tmp_path / "models").glob("blobs/sha256-*"))


def test_an_adapter_in_a_line_from_is_one_of_the_model(store: Store, tmp_path: Path) -> None:
    write_lora(tmp_path / "lora.gguf", 1)
    want = create(store, "m", "FROM tiny.gguf\nADAPTER lora.gguf\n", directory=tmp_path)
    assert create(store, "f", "FROM tiny.gguf\nFROM lora.gguf\n", directory=tmp_path).digest == want.digest
    create(store, "base", "FROM tiny.gguf", directory=tmp_path)
    assert create(store, "s", "FROM base\nFROM lora.gguf\n", directory=tmp_path).layers == want.layers


def test_an_adapter_alone_is_no_model_and_one_for_another_model_is_refused(store: Store, tmp_path: Path) -> None:
    write_lora(tmp_path / "lora.gguf", 1)
    with pytest.raises(ModelfileError, match=r"FROM with its base model, and ADAPTER lora\.gguf, work"):
        create(store, "m", "FROM lora.gguf", directory=tmp_path)
    write_lora(tmp_path / "qwen.gguf", 1, general__architecture="qwen2")
    with pytest.raises(ModelError, match=r"^FROM qwen\.gguf: adapter qwen\.gguf: it is made for 'qwen2'"):
        create(store, "m", "FROM tiny.gguf\nFROM qwen.gguf\n", directory=tmp_path)
    assert not store.models()


def test_an_adapter_beside_the_model_of_a_directory_is_not_taken(store: Store, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    write_tiny(tmp_path / "both" / "tiny.gguf")
    write_lora(tmp_path / "both" / "lora.gguf", 1)
    write_gguf(tmp_path / "both" / "im.gguf", {"general.type": "imatrix"}, [("x", (1,), "F32", np.ones(1, "f4"))])
    assert [layer.kind for layer in create(store, "m", "FROM ./both", directory=tmp_path).layers] == ["model"]


def test_what_does_not_fit_or_is_not_known_is_said_before_anything_is_converted(store: Store, tmp_path: Path) -> None:
    write_lora(tmp_path / "qwen.gguf", 1, general__architecture="qwen2")

    def convert(*_: object, **__: object) -> None:
        raise AssertionError("it converts")

    statuses: list[str] = []
    options: dict[str, Any] = {"directory": tmp_path, "convert": convert}
    options["on_progress"] = lambda status, *_: statuses.append(status)
    with pytest.raises(ModelError, match="made for 'qwen2'"):
        create(store, "m", "FROM tiny.gguf\nADAPTER qwen.gguf\n", quantize="Q8_0", **options)
    statuses.clear()
    for wanted, said in (
        ({"quantize": "NOPE"}, "NOPE"),
        ({"recipe": tmp_path / "none.toml"}, "none.toml"),
        ({"quantize": "Q4_K_M", "imatrix": tmp_path / "none.gguf"}, "none.gguf"),
        ({"target_size": "much"}, "much"),
    ):
        with pytest.raises((PunaError, OSError), match=said):
            create(store, "m", "FROM tiny.gguf", **wanted, **options)
    assert statuses == []


def test_an_empty_line_from_or_adapter_is_not_this_directory(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ModelfileError, match="line 1: FROM is empty"):
        create(store, "m", 'FROM ""', directory=tmp_path)
    with pytest.raises(ModelfileError, match="line 2: ADAPTER : it is empty"):
        create(store, "m", 'FROM tiny.gguf\nADAPTER ""', directory=tmp_path)


def test_verifying_a_model_with_an_adapter_says_what_can_be_verified(store: Store, tmp_path: Path) -> None:
    write_lora(tmp_path / "lora.gguf", 1)
    create(store, "tuned", "FROM tiny.gguf\nADAPTER lora.gguf\n", directory=tmp_path)
    words = "`puna merge tuned -o merged.gguf` folds it in, and merged.gguf can be verified"
    with pytest.raises(ModelError, match=f"^verifying tuned: it has a LoRA adapter; {words}$"):
        puna.verify("tuned")
