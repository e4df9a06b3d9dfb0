import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from puna.errors import ModelNotFound, StoreError
from puna.store import Config, Manifest, ModelName, Store, find_model
from puna.store.manifest import CONFIG_TYPE


def write(store: Store, name: str, *contents: bytes) -> Manifest:
    with store.adding() as new:
        return new.write(name, [new.add_bytes("model", content) for content in contents], Config())


def blob_contents(root: Path) -> list[bytes]:
    """What the model blobs hold, configs left out."""
    contents = [path.read_bytes() for path in (root / "blobs").glob("sha256-*")]
    return sorted(content for content in contents if not content.startswith(b"{"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def test_the_store_is_where_puna_models_says_else_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path / "here"))
    assert Store().root == tmp_path / "here"
    monkeypatch.delenv("PUNA_MODELS")
    assert Store().root == Path.home() / ".puna" / "models"


def test_a_store_that_does_not_exist_is_empty_and_looking_does_not_make_it(store: Store) -> None:
    assert store.models() == []
    with pytest.raises(ModelNotFound):
        store.manifest("m")
    assert not store.root.exists()


def test_a_written_model_lies_where_ollama_looks_for_it(store: Store) -> None:
    manifest = write(store, "me/m:1", b"weights")
    path = store.root / "manifests" / "registry.ollama.ai" / "me" / "m" / "1"
    top = json.loads(path.read_bytes())
    assert top["config"]["mediaType"] == CONFIG_TYPE
    assert [layer["size"] for layer in top["layers"]] == [7]
    assert store.model_path("me/m:1").read_bytes() == b"weights"
    assert manifest.size == 7 + top["config"]["size"]


def test_models_are_listed_by_name_and_found_in_any_letter_case(store: Store) -> None:
    for name in ("b", "A:x", "h.co/n/c"):
        write(store, name, b"weights")
    assert [name.short for name in store.models()] == ["h.co/n/c:latest", "A:x", "b:latest"]
    assert store.manifest("a:X") == store.manifest("A:x")


def test_writing_in_another_letter_case_replaces_the_same_model(store: Store) -> None:
    write(store, "Model", b"one")
    write(store, "mODEL", b"two")
    assert [str(name) for name in store.models()] == ["registry.ollama.ai/library/Model:latest"]


def test_equal_inputs_give_equal_digests(tmp_path: Path) -> None:
    first, second = (write(Store(tmp_path / place), "m", b"weights") for place in ("a", "b"))
    assert first.digest == second.digest


def test_a_model_that_is_not_there_is_refused_with_the_closest_name(store: Store) -> None:
    write(store, "smollm2", b"weights")
    with pytest.raises(ModelNotFound, match=r"model 'smolm2:latest': not in the store .*; closest: smollm2:latest"):
        store.manifest("smolm2")
    for name in ("nosuch", "qwen"):
        with pytest.raises(ModelNotFound, match="`puna list` shows what is there"):
            store.manifest(name)


def test_a_blob_is_removed_with_the_last_model_that_names_it(store: Store) -> None:
    write(store, "one", b"shared", b"own")
    write(store, "two", b"shared")
    assert store.remove("one") == 3
    assert blob_contents(store.root) == [b"shared"]
    store.remove("two")
    assert list((store.root / "blobs").glob("sha256-*")) == []
    assert list((store.root / "manifests").iterdir()) == []


def test_replacing_a_model_removes_what_only_the_old_one_named(store: Store) -> None:
    layers = write(store, "m", b"old").layers
    store.write("other", layers, Config(model_type="1"))
    write(store, "n", b"new")
    store.write("other", store.manifest("n").layers, Config())
    store.remove("m")
    assert blob_contents(store.root) == [b"new"]


def test_a_copy_needs_no_bytes_and_survives_its_original(store: Store) -> None:
    original = write(store, "m", b"weights")
    assert store.copy("m", "me/copy:2").digest == original.digest
    store.remove("m")
    assert store.model_path("me/copy:2").read_bytes() == b"weights"


@pytest.mark.parametrize("content", [b"{", b"", b'{"schemaVersion":2,"config":{}}'])
def test_an_unreadable_manifest_stops_deletion(store: Store, content: bytes) -> None:
    write(store, "m", b"weights")
    broken = store.root / "manifests" / "registry.ollama.ai" / "library" / "broken" / "latest"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(content)
    with pytest.raises(StoreError, match=r"what .*broken.* needs is unknown"):
        store.remove("m")
    with pytest.raises(StoreError):
        store.prune(older_than=0)
    assert store.model_path("m").read_bytes() == b"weights"
    store.remove("broken")
    assert store.remove("m") > 0


def test_a_manifest_under_a_name_that_is_none_still_keeps_its_blobs(store: Store) -> None:
    write(store, "m", b"weights")
    stray = store.root / "manifests" / "registry.ollama.ai" / "li.brary" / "m" / "latest"
    stray.parent.mkdir(parents=True)
    stray.write_bytes((store.root / "manifests" / ModelName.parse("m").path).read_bytes())
    store.remove("m")
    assert blob_contents(store.root) == [b"weights"]
    assert store.models() == []


def test_a_manifest_of_blobs_that_are_missing_is_not_written(store: Store) -> None:
    layers = write(store, "m", b"weights").layers
    store.blob_path(layers[0].digest).write_bytes(b"cut")
    with pytest.raises(StoreError, match="7 bytes is not here"):
        store.write("n", layers, Config())
    assert not store.has("m")
    assert [name.short for name in store.models()] == ["m:latest"]


def test_blobs_stay_while_another_is_adding_and_go_with_the_next_pruning(store: Store) -> None:
    layer = write(store, "m", b"weights").layers[0]
    with Store(store.root).adding() as new:
        assert new.add_bytes("model", b"weights") == layer  # it relies on the blob that is there
        assert store.remove("m") == 0
        new.write("n", [layer], Config(model_type="x"))
    assert store.model_path("n").read_bytes() == b"weights"
    assert store.prune(older_than=3600) == 0
    store.prune(older_than=0)
    assert store.has("n")
    assert len(list((store.root / "blobs").glob("sha256-*"))) == 2


def test_a_damaged_small_layer_is_refused(store: Store) -> None:
    with store.adding() as new:
        manifest = new.write("m", [new.add_bytes("system", b"be kind")], Config())
    assert store.read(manifest.layers[0]) == b"be kind"
    store.blob_path(manifest.layers[0].digest).write_bytes(b"be evil")
    with pytest.raises(StoreError, match="is damaged"):
        store.read(manifest.layers[0])


def test_a_read_only_store_refuses_every_change(store: Store) -> None:
    write(store, "m", b"weights")
    frozen = Store(store.root, read_only=True)
    assert frozen.has("m")
    for change in (lambda: frozen.remove("m"), lambda: frozen.copy("m", "n"), lambda: frozen.prune()):
        with pytest.raises(StoreError, match="for reading only"):
            change()


def test_a_model_is_found_in_puna_s_store_before_ollama_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    own, ollama = Store(tmp_path / "puna"), Store(tmp_path / "ollama")
    write(ollama, "m", b"theirs")
    home, manifest = find_model("m", own)
    assert home.root == tmp_path / "ollama"
    assert home.read_only
    assert home.blob_path(manifest.layers[0].digest).read_bytes() == b"theirs"
    write(own, "m", b"ours")
    assert find_model("m", own)[0] is own
    with pytest.raises(ModelNotFound):
        find_model("absent", own)


def _add_and_remove(root: str, who: int, rounds: int) -> None:
    store = Store(root)
    for turn in range(rounds):
        name = f"m{who}-{turn % 2}"
        layers = write(store, name, b"shared by all", f"{who} {turn}".encode() * 1000).layers
        assert store.has(name), "a model that was written is whole"
        assert store.model_path(name).read_bytes() == b"shared by all"
        assert len(layers) == 2
        if turn % 3 == 2:
            store.remove(name)


def test_two_processes_can_add_and_remove_in_one_store(store: Store) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_add_and_remove, args=(str(store.root), who, 30)) for who in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert all(store.has(name) for name in store.models())
    store.prune(older_than=0)
    named = {layer.digest for name in store.models() for layer in store.manifest(name).parts}
    stored = {path.name.replace("-", ":") for path in (store.root / "blobs").glob("sha256-*")}
    assert stored == named


def _hang_while_adding(root: str, ready: Any) -> None:
    with Store(root).adding() as new:
        (new.temporary / "half").write_bytes(b"half a model")
        ready.set()
        time.sleep(60)


def test_what_a_killed_process_leaves_is_cleaned_by_the_next(store: Store) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    worker = spawn.Process(target=_hang_while_adding, args=(str(store.root), ready))
    worker.start()
    assert ready.wait(60)
    write(store, "m", b"weights")
    assert len(list((store.root / "blobs" / ".puna").rglob("half"))) == 1
    worker.kill()
    worker.join()
    write(store, "n", b"weights")
    assert list((store.root / "blobs" / ".puna").rglob("half")) == []
