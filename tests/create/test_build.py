import importlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli.tiny import write_tiny
from puna import formats
from puna.create.build import create
from puna.errors import (
    FormatError,
    ModelError,
    ModelfileError,
    ModelNotFound,
    PunaError,
    StoreError,
    TemplateError,
    UnknownArchitecture,
)
from puna.formats import Typed, open_gguf
from puna.store import Manifest, Store, blobs
from puna.store.describe import describe_gguf
from puna.store.manifest import Config
from store.ggufs import write_gguf


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.gguf")


def write_shards(model: Path, stem: Path, count: int = 2) -> list[Path]:
    """The same model in files, every tensor in the next one's turn, as llama-gguf-split names and numbers them."""
    whole = open_gguf(model)
    tensors = list(whole.tensors.values())
    paths = [stem.with_name(f"{stem.name}-{number + 1:05d}-of-{count:05d}.gguf") for number in range(count)]
    for number, path in enumerate(paths):
        split = {"split.no": np.uint16(number), "split.count": np.uint16(count)}
        split["split.tensors.count"] = Typed(len(tensors), "INT32")
        step = -(-len(tensors) // count)
        metadata = whole.metadata.exact() if number == 0 else {}
        formats.write_gguf(path, {**metadata, **split}, tensors[number * step : (number + 1) * step])
    return paths


def texts(store: Store, manifest: Manifest) -> dict[str, str]:
    return {layer.kind: store.read(layer).decode() for layer in manifest.layers if layer.kind != "model"}


def entries(store: Store) -> list[str]:
    """Every file of the store but the lock."""
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def test_a_gguf_file_becomes_a_model_with_its_layers(store: Store, model: Path) -> None:
    text = (
        'FROM ./tiny.gguf\nTEMPLATE "{{ .Prompt }}"\nSYSTEM Be kind.\nPARAMETER temperature 1\nPARAMETER stop <|x|>\n'
        "MESSAGE user hi\nLICENSE MIT\nLICENSE BSD\n"
    )
    manifest = create(store, "tiny", text, directory=model.parent)
    assert [layer.kind for layer in manifest.layers] == [
        *("model", "template", "system", "license", "license", "params", "messages")
    ]
    assert store.model_path("tiny").read_bytes() == model.read_bytes()
    assert texts(store, manifest) == {
        "template": "{{ .Prompt }}",
        "system": "Be kind.",
        "license": "BSD",
        "params": '{"stop":["\\u003c|x|\\u003e"],"temperature":1}\n',
        "messages": '[{"role":"user","content":"hi"}]\n',
    }
    assert json.loads(store.read(manifest.config)) == {
        **{"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "95K"},
        **{"file_type": "F32", "architecture": "amd64", "os": "linux"},
    }


def test_a_model_made_of_another_inherits_and_overrides(store: Store, model: Path) -> None:
    create(store, "base", f"FROM {model}\nSYSTEM one\nTEMPLATE t\nPARAMETER top_k 1\nPARAMETER stop a\nLICENSE MIT\n")
    manifest = create(store, "me/child:1", "FROM base\nSYSTEM two\nPARAMETER stop b\nPARAMETER seed 7\nRENDERER r\n")
    assert texts(store, manifest) == {
        **{"template": "t", "license": "MIT", "system": "two"},
        "params": '{"seed":7,"stop":["b"],"top_k":1}\n',
    }
    assert store.config(manifest).renderer == "r"
    assert [layer.kind for layer in manifest.layers] == ["model", "template", "system", "license", "params"]
    assert [layer.source for layer in manifest.layers] == [""] * 5  # or the way it was made would change the digest
    store.remove("base")
    assert store.model_path("me/child:1").read_bytes() == model.read_bytes()


def test_a_digest_of_a_stored_blob_is_a_source(store: Store, model: Path) -> None:
    digest = create(store, "tiny", f"FROM {model}").layers[0].digest
    assert create(store, "again", f"FROM @{digest}").layers[0].digest == digest
    with pytest.raises(StoreError, match="there is no such blob"):
        create(store, "x", "FROM @sha256:" + "0" * 64)
    with pytest.raises(StoreError, match="not a digest"):
        create(store, "x", "FROM @sha256:../../etc")


def test_a_directory_is_converted_and_one_with_a_gguf_is_not(store: Store, tmp_path: Path, model: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "model.safetensors").write_bytes(b"s")
    seen: list[Path] = []

    def convert(directory: Path, out: Path) -> None:
        seen.append(directory)
        write_gguf(out, "qwen3")

    manifest = create(store, "m", "FROM hf", directory=tmp_path, convert=convert)
    assert seen == [tmp_path / "hf"]
    assert store.config(manifest).model_family == "qwen3"
    (tmp_path / "ready").mkdir()
    model.rename(tmp_path / "ready" / "tiny.gguf")
    assert store.config(create(store, "n", "FROM ready", directory=tmp_path)).model_family == "llama"
    assert len(seen) == 1


def test_a_model_of_ollama_s_store_is_taken_without_copying(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "_clone", lambda source, target: False)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    ollama = Store(tmp_path / "ollama")
    create(ollama, "theirs", f"FROM {model}\nSYSTEM s")
    before = entries(ollama)
    manifest = create(store, "ours", "FROM theirs\nPARAMETER seed 1")
    assert os.path.samefile(ollama.model_path("theirs"), store.model_path("ours"))
    assert texts(store, manifest) == {"system": "s", "params": '{"seed":1}\n'}
    assert entries(ollama) == before


def test_equal_inputs_give_equal_digests_and_nothing_is_left_behind(store: Store, model: Path) -> None:
    text = f"FROM {model}\nSYSTEM one\nPARAMETER top_k 3\nPARAMETER seed 1"
    first = create(store, "m", text)
    once = entries(store)
    create(store, "m", f"FROM {model}\nSYSTEM another")
    assert create(store, "m", text).digest == first.digest
    assert entries(store) == once


BAD: list[tuple[str, type[PunaError], str]] = [
    ("FROM absent-model", ModelNotFound, "no such file"),
    ("FROM ./absent.gguf", ModelfileError, "there is no file"),
    ("FROM tiny.gguf\nADAPTER ./lora", ModelfileError, "line 2: ADAPTER ./lora: there is no"),
    ("FROM tiny.gguf\nDRAFT ./d", ModelfileError, "Modelfile line 2: DRAFT ./d: there is no file"),
    ("FROM tiny.gguf\nDRAFT tiny.gguf", ModelfileError, "line 2: DRAFT tiny.gguf: it is the model itself"),
    ("FROM tiny.gguf\nDRAFT a\nDRAFT b", ModelfileError, "line 3: DRAFT b: it is the draft model number 2"),
    ("FROM tiny.gguf\nFROM other.gguf", ModelfileError, "line 2: FROM tiny.gguf, other.gguf: 2 models"),
    ("SYSTEM s\nFROM clip.gguf", ModelfileError, "line 2: FROM clip.gguf: 0 models"),
    (
        "FROM lost-00001-of-00002.gguf",
        FormatError,
        "line 1: FROM lost-00001-of-00002.gguf: opening lost-00001-of-00002.gguf: missing lost-00002-of-00002.gguf",
    ),
    ("FROM tiny.gguf\nPARAMETER nonsense 1", ModelfileError, "no such option"),
    ("FROM tiny.gguf\nTEMPLATE {{ .Prompt", TemplateError, "Modelfile line 2: TEMPLATE: template: line 1"),
    ("FROM tiny.gguf\n\nTEMPLATE {{ if .System }}x", TemplateError, "Modelfile line 3: TEMPLATE: template: unexpected"),
    (
        'FROM tiny.gguf\nTEMPLATE """{{ .System }}\n{{ .Promt }}"""',
        TemplateError,
        "Modelfile line 2: TEMPLATE: template: line 2: there is no field .Promt; closest: .Prompt",
    ),
    ("FROM tiny.gguf\nTEMPLATE {% if x %}", TemplateError, "Modelfile line 2: TEMPLATE: "),
    (
        "FROM tiny.gguf\nPARAMETER seed 1\nPARAMETER top_p 1.5",
        ModelfileError,
        "line 3: PARAMETER top_p: is 1.5",
    ),
    ("FROM tiny.gguf\nPARAMETER temperature -1", ModelfileError, "Modelfile line 2: PARAMETER temperature"),
    ("FROM tiny.gguf\nPARAMETER num_ctx -1", ModelfileError, "Modelfile line 2: PARAMETER num_ctx"),
    ('FROM tiny.gguf\nPARAMETER stop ""', ModelfileError, "Modelfile line 2: PARAMETER stop"),
    ("FROM odd.gguf", UnknownArchitecture, "FROM odd.gguf: architecture 'lama' is unknown; closest: llama"),
    ("FROM few.gguf", ModelError, "FROM few.gguf: llama: the file has no tensor 'blk.2.attn_norm.weight'"),
    ("FROM many.gguf", ModelError, "FROM many.gguf: llama: 'llama.block_count' is 1000000000"),
    ("FROM broken.gguf", FormatError, "broken.gguf"),
    ("FROM text.gguf", FormatError, "text.gguf"),
]


@pytest.mark.parametrize(("text", "kind", "reason"), BAD)
def test_what_cannot_be_made_is_refused_before_the_store_is_touched(
    store: Store, model: Path, text: str, kind: type[PunaError], reason: str
) -> None:
    (model.parent / "broken.gguf").write_bytes(model.read_bytes()[:-64])
    write_tiny(model.parent / "other.gguf", general__name="Other")
    write_shards(model, model.parent / "lost")[1].unlink()
    formats.write_gguf(model.parent / "clip.gguf", {"general.architecture": "clip"}, [("v.w", (1,), "I8", b"x")])
    write_tiny(model.parent / "odd.gguf", general__architecture="lama")
    write_tiny(model.parent / "few.gguf", llama__block_count=3)
    write_tiny(model.parent / "many.gguf", llama__block_count=10**9)
    (model.parent / "text.gguf").write_text("no GGUF at all")
    with pytest.raises(kind) as caught:
        create(store, "m", text, directory=model.parent)
    assert reason in str(caught.value)
    assert not store.root.exists()


def interrupt(directory: Path, out: Path) -> None:
    out.write_bytes(b"GGUF half")
    raise KeyboardInterrupt


def break_off(directory: Path, out: Path) -> None:
    out.write_bytes(b"GGUF half")


@pytest.mark.parametrize(("convert", "kind"), [(interrupt, KeyboardInterrupt), (break_off, FormatError)])
def test_a_conversion_that_breaks_off_leaves_the_store_as_it_was(
    store: Store, model: Path, convert: Callable[[Path, Path], None], kind: type[BaseException]
) -> None:
    create(store, "m", f"FROM {model}\nSYSTEM old")
    before = entries(store)
    (model.parent / "model.safetensors").write_bytes(b"s")
    with pytest.raises(kind):
        create(store, "m", f"FROM {model.parent}\nSYSTEM new", convert=convert)
    assert entries(store) == before


def test_ctrl_c_before_the_manifest_takes_the_blobs_back(store: Store, model: Path) -> None:
    def stop(status: str, done: int, size: int) -> None:
        if status == "writing manifest":
            assert list((store.root / "blobs").glob("sha256-*"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create(store, "m", f"FROM {model}", on_progress=stop)
    assert entries(store) == ["blobs/.puna/lock"]


def test_the_package_is_the_public_function(store: Store, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUNA_MODELS", str(store.root))
    package = importlib.import_module("puna.create")
    for function, name in ((package, "one"), (package.create, "two")):
        manifest = function(name, f"FROM {model}")
        assert isinstance(manifest, Manifest)
        assert store.manifest(name).digest == manifest.digest


def test_shards_become_one_file_that_any_program_reads(store: Store, model: Path, tmp_path: Path) -> None:
    paths = write_shards(model, tmp_path / "m", 3)
    manifest = create(store, "m", f"FROM {paths[0]}")
    assert [layer.kind for layer in manifest.layers] == ["model"]
    assert store.model_path("m").read_bytes() == model.read_bytes()
    assert create(store, "later", f"FROM {paths[2]}").digest == manifest.digest
    assert create(store, "all", "".join(f"FROM {path}\n" for path in paths)).digest == manifest.digest
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in paths:
        path.rename(folder / path.name)
    assert create(store, "folder", f"FROM {folder}").digest == manifest.digest


def test_a_projector_and_a_draft_are_kept_as_layers_of_their_own(store: Store, model: Path, tmp_path: Path) -> None:
    formats.write_gguf(tmp_path / "clip.gguf", {"general.architecture": "clip"}, [("v.w", (1,), "I8", b"x")])
    write_tiny(tmp_path / "small.gguf", general__name="Small")
    text = "SYSTEM s\nDRAFT small.gguf\nFROM clip.gguf\nFROM tiny.gguf\n"
    manifest = create(store, "m", text, directory=tmp_path)
    assert [layer.kind for layer in manifest.layers] == ["model", "projector", "draft", "system"]
    paths = [store.blob_path(layer.digest).read_bytes() for layer in manifest.layers[:3]]
    assert paths == [(tmp_path / name).read_bytes() for name in ("tiny.gguf", "clip.gguf", "small.gguf")]
    assert store.config(manifest).model_families == ["llama", "clip"]
    create(store, "small", "FROM small.gguf", directory=tmp_path)
    named = create(store, "n", "FROM tiny.gguf\nFROM clip.gguf\nDRAFT small\nSYSTEM s\n", directory=tmp_path)
    assert named.digest == manifest.digest
    create(store, "bare", "FROM tiny.gguf\nSYSTEM s", directory=tmp_path)
    onto = create(store, "onto", "FROM clip.gguf\nFROM bare\nDRAFT small", directory=tmp_path)
    assert onto.digest == manifest.digest
    child = create(store, "child", "FROM m\nDRAFT tiny.gguf", directory=tmp_path)
    assert [layer.kind for layer in child.layers] == ["model", "projector", "draft", "system"]
    assert child.layers[2].digest == manifest.layers[0].digest


def test_a_model_is_quantized_on_the_way_from_file_name_and_directory(
    store: Store, model: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    def listen(status: str, done: int, size: int) -> None:
        said.append(status)

    base = create(store, "base", f"FROM {model}\nSYSTEM s")
    of_file = create(store, "a", f"FROM {model}\nSYSTEM s", quantize="Q8_0", on_progress=listen)
    assert "quantizing F32 model to Q8_0" in said
    assert store.config(of_file).file_type == "Q8_0"
    assert of_file.layers[0].digest != base.layers[0].digest
    assert {t.dtype.name for t in open_gguf(store.model_path("a")).tensors.values()} == {"F32", "Q8_0"}
    assert create(store, "b", "FROM base", quantize="Q8_0").digest == of_file.digest
    assert create(store, "c", f"FROM @{base.layers[0].digest}\nSYSTEM s", quantize="Q8_0").digest == of_file.digest
    of_shards = create(store, "d", f"FROM {write_shards(model, tmp_path / 's')[0]}\nSYSTEM s", quantize="Q8_0")
    assert of_shards.digest == of_file.digest
    create(store, "e", "FROM a", quantize="Q4_0", on_progress=listen)
    assert any(line.startswith("requantizing Q8_0 model to Q4_0: ") for line in said)
    create(store, "f", "FROM base", target_size="300K", on_progress=listen)
    assert "quantizing F32 model to 300K" in said
    assert store.model_path("f").stat().st_size <= 300_000


def test_layers_that_are_shards_of_another_program_are_taken_as_they_are(
    store: Store, model: Path, tmp_path: Path
) -> None:
    paths = write_shards(model, tmp_path / "s")
    with store.adding() as new:
        layers = [new.add_file("model", path) for path in paths]
        new.write("theirs", layers, describe_gguf(paths[0]))
    child = create(store, "child", "FROM theirs\nSYSTEM s")
    assert [layer.kind for layer in child.layers] == ["model", "model", "system"]
    assert [path.read_bytes() for path in store.model_paths("child")] == [path.read_bytes() for path in paths]
    whole = create(store, "whole", f"FROM {model}", quantize="Q8_0")
    assert create(store, "q", "FROM theirs", quantize="Q8_0").layers[0].digest == whole.layers[0].digest


def test_a_hard_link_is_made_only_when_asked_for_and_says_where_it_leads(
    store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "_clone", lambda source, target: False)
    said: set[str] = set()
    listen = lambda status, done, size: said.add(status)  # noqa: E731
    digest = create(store, "copied", f"FROM {model}", on_progress=listen).layers[0].digest
    assert not os.path.samefile(model, store.blob_path(digest))
    assert store.origin(digest) is None
    store.remove("copied")
    create(store, "linked", f"FROM {model}", link=True, on_progress=listen)
    assert os.path.samefile(model, store.blob_path(digest))
    assert store.origin(digest) == str(model)
    assert {f"storing {model} (a copy)", f"storing {model} (a hard link)"} <= said
    store.remove("linked")
    assert store.origin(digest) is None
    assert model.exists()


def test_layers_of_every_kind_are_kept_in_a_child(store: Store) -> None:
    with store.adding() as new:
        kinds = ("tensor", "tensor", "json", "projector", "embed", "something.new", "license", "template")
        stored = [new.add_bytes(kind, f"{kind} {number}".encode()) for number, kind in enumerate(kinds)]
        layers = [replace(layer, name=f"n{number}", source="them:latest") for number, layer in enumerate(stored)]
        new.write("theirs", layers, Config("safetensors", "qwen3", ["qwen3"], extra={"capabilities": ["vision"]}))
    child = create(store, "child", "FROM theirs\nSYSTEM s\nTEMPLATE t\nLICENSE l\n")
    theirs = {(layer.media_type, layer.digest, layer.name) for layer in layers if layer.kind != "template"}
    assert theirs <= {(layer.media_type, layer.digest, layer.name) for layer in child.layers}
    assert len(child.layers) == len(theirs) + 3
    assert store.config(child).extra == {"capabilities": ["vision"]}
    with pytest.raises(ModelfileError, match="quantizing: theirs has no GGUF weights"):
        create(store, "x", "FROM theirs", quantize="Q8_0")


def test_what_is_no_model_does_not_hide_a_stored_one_of_that_name(store: Store, model: Path, tmp_path: Path) -> None:
    digest = create(store, "tiny", f"FROM {model}").digest
    (tmp_path / "tiny").write_bytes(b"\x7fELF and so on")
    assert create(store, "a", "FROM tiny", directory=tmp_path).digest == digest
    with pytest.raises(FormatError, match=r"FROM \./tiny: reading tiny: at byte 0: this is no GGUF file"):
        create(store, "b", "FROM ./tiny", directory=tmp_path)
    (tmp_path / "tiny").unlink()
    (tmp_path / "tiny").mkdir()
    assert create(store, "a", "FROM tiny", directory=tmp_path).digest == digest
    other = write_tiny(tmp_path / "tiny" / "other.gguf", general__name="Other")
    assert create(store, "a", "FROM tiny", directory=tmp_path).digest != digest
    assert store.model_path("a").read_bytes() == other.read_bytes()
