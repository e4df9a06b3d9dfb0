"""Models from the Hugging Face hub, over HTTP from a stand-in on this machine."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants, try_to_load_from_cache
from safetensors.numpy import load

from cli.tiny import write_tiny
from create.hub_server import COMMIT, OLDER, Hub, serving
from create.test_build import entries, write_shards
from golden.checkpoints import write_checkpoint
from puna.create.build import create
from puna.create.hub.pull import pull_hub
from puna.create.references import local_source
from puna.errors import InvalidName, StoreError
from puna.formats import open_gguf
from puna.store import Store
from puna.store.hub_ref import HubRef


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("hub") / "tiny.gguf")


def pull(store: Store, text: str, **more: object) -> str:
    return pull_hub(HubRef.parse(text), store, **more).short  # type: ignore[arg-type]


def test_a_gguf_file_is_pulled_under_the_name_that_ollama_gives_it(hub: Hub, store: Store, model: Path) -> None:
    hub.repositories["me/tiny-GGUF"] = {
        "README.md": b"# tiny",
        "tiny-Q8_0.gguf": b"GGUF another",
        "tiny-Q4_K_M.gguf": model.read_bytes(),
        "mmproj-tiny-F16.gguf": b"GGUF images",
        "template": b"{{ .Prompt }}",
        "system": b"Be kind.",
        "params": b'{"stop": ["<|end|>"], "temperature": 0.5, "num_ctx": 64}',
    }
    said: list[str] = []
    name = pull(store, "hf.co/me/tiny-GGUF", on_progress=lambda status, done, size: said.append(status))
    assert name == "hf.co/me/tiny-GGUF:latest"
    manifest = store.manifest(name)
    assert [layer.kind for layer in manifest.layers] == ["model", "template", "system", "params"]
    assert store.model_path(name).read_bytes() == model.read_bytes()
    assert store.params(manifest) == {"num_ctx": 64, "stop": ["<|end|>"], "temperature": 0.5}
    assert store.config(manifest).extra == {"source": f"hf.co/me/tiny-GGUF@{COMMIT}"}
    assert hub.gets() == [f"{COMMIT}/{file}" for file in ("tiny-Q4_K_M.gguf", "template", "system", "params")]
    assert "leaving out mmproj-tiny-F16.gguf: images are not supported yet" in said
    assert not list((store.root / "downloads").rglob("*.gguf"))
    del hub.asked[:]
    pull(store, "hf.co/me/tiny-GGUF", on_progress=lambda status, done, size: said.append(status))
    assert hub.gets() == []
    assert said[-1] == "hf.co/me/tiny-GGUF:latest is already here"


def test_the_quant_chooses_the_file_and_is_the_tag(hub: Hub, store: Store, model: Path) -> None:
    hub.repositories["me/r"] = {
        **{f"r.{quant}.gguf": b"x" for quant in ("Q4_K_M", "IQ2_XXS", "f16")},
        "Q8_0/r-Q8_0.gguf": model.read_bytes(),
    }
    assert pull(store, "https://huggingface.co/me/r:q8_0") == "hf.co/me/r:q8_0"
    assert store.model_path("hf.co/me/r:Q8_0").read_bytes() == model.read_bytes()
    with pytest.raises(StoreError, match=r": there is no Q5_1; there are F16, IQ2_XXS, Q4_K_M, Q8_0$"):
        pull(store, "hf.co/me/r:Q5_1")


def test_shards_come_together_and_are_stored_as_one_file(hub: Hub, store: Store, model: Path, tmp_path: Path) -> None:
    paths = write_shards(model, tmp_path / "tiny-Q4_K_M", 3)
    hub.repositories["me/big"] = {f"Q4_K_M/{path.name}": path.read_bytes() for path in paths}
    name = pull(store, "hf.co/me/big:Q4_K_M")
    assert store.model_path(name).read_bytes() == model.read_bytes()
    assert not list((store.root / "downloads").rglob("*.gguf"))


def test_a_checkpoint_is_fetched_without_what_it_does_not_need_and_converted(
    hub: Hub, store: Store, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "src" / "tiny", "llama3")
    weights = (folder / "model.safetensors").read_bytes()
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.safetensors"}
    index = {"weight_map": dict.fromkeys(load(weights), "model-00001-of-00001.safetensors")}
    hub.repositories["me/tiny"] = {
        **files,
        "model-00001-of-00001.safetensors": weights,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model.fp16.safetensors": b"a variant",
        "pytorch_model.bin": b"PK the same again",
        "images/cat.png": b"png",
        "README.md": b"---\nmodel_name: Tiny of the card\n---\n",
    }
    name = pull(store, "hf.co/me/tiny:Q8_0")
    assert name == "hf.co/me/tiny:Q8_0"
    assert sorted(hub.gets()) == sorted(
        f"{COMMIT}/{file}"
        for file in (*files, "README.md", "model-00001-of-00001.safetensors", "model.safetensors.index.json")
    )
    gguf = open_gguf(store.model_path(name))
    assert gguf.metadata["general.name"] == "Tiny of the card"
    assert gguf.tensors["blk.0.ffn_up.weight"].dtype.name == "Q8_0"
    assert not list((store.root / "downloads").rglob("*.safetensors"))


def test_an_interrupted_download_goes_on_where_it_stopped(
    hub: Hub, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    data = model.read_bytes()
    hub.repositories["me/r"] = {"r.gguf": data}
    half = 4096 * 40

    def stop(status: str, done: int, size: int) -> None:
        if status == "downloading r.gguf" and done >= half:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(store, "hf.co/me/r", on_progress=stop)
    assert not store.knows("hf.co/me/r")
    assert not list((store.root / "blobs").glob("sha256-*"))
    del hub.asked[:]
    assert store.model_path(pull(store, "hf.co/me/r")).read_bytes() == data
    assert [line.rpartition(" ")[2] for line in hub.asked if "/resolve/" in line] == [f"bytes={half}-"]


def test_a_line_that_breaks_is_taken_up_again(
    hub: Hub, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    hub.repositories["me/r"] = {"r.gguf": model.read_bytes()}
    hub.cut = 4096 * 60
    assert store.model_path(pull(store, "hf.co/me/r")).read_bytes() == model.read_bytes()
    assert [line.rpartition(" ")[2] for line in hub.asked][-1] == f"bytes={hub.cut}-"


def test_a_hub_that_ignores_where_to_go_on_gives_the_whole_file(hub: Hub, store: Store, model: Path) -> None:
    hub.repositories["me/r"] = {"r.gguf": model.read_bytes()}
    folder = store.root / "downloads" / "hf.co" / "me" / "r" / "latest" / COMMIT / "r"
    folder.mkdir(parents=True)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    (folder / f"r.gguf.{digest[:16]}.partial").write_bytes(model.read_bytes()[:1000])
    hub.deaf_to_ranges = True
    assert store.model_path(pull(store, "hf.co/me/r")).read_bytes() == model.read_bytes()


def test_bytes_that_are_not_the_file_s_never_get_into_the_store(
    hub: Hub, store: Store, model: Path, tmp_path: Path
) -> None:
    data = model.read_bytes()
    hub.repositories["me/r"] = {"r.gguf": data}
    hub.lies["r.gguf"] = data[:-1] + b"\xff"
    with pytest.raises(StoreError, match="hash to"):
        pull(store, "hf.co/me/r")
    folder = write_checkpoint(tmp_path / "c", "llama3")
    hub.repositories["me/c"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.lies["config.json"] = hub.repositories["me/c"]["config.json"][:-1] + b" "
    with pytest.raises(StoreError, match=r"downloading config\.json of hf\.co/me/c: \d+ bytes came that are not"):
        pull(store, "hf.co/me/c")
    assert store.models() == []
    hub.lies.clear()
    assert store.model_path(pull(store, "hf.co/me/r")).read_bytes() == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hf.co/me/absent", "opening {}: the hub has no model me/absent; if it is private, set HF_TOKEN"),
        ("hf.co/me/gated", "opening {}: it is gated; ask for access at https://hf.co/me/gated, then set HF_TOKEN"),
        ("hf.co/me/no", "opening {}: the hub refuses it (403); set HF_TOKEN to a token that may read it"),
        ("hf.co/me/broken", "opening {}: the hub answers 500; try again later"),
        ("hf.co/me/r@nowhere", "opening {}: it has no revision nowhere; a branch, tag or commit works"),
        ("hf.co/me/data", "pulling {}: there are no weights, but README.md, train.csv; GGUF or safetensors files work"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(hub: Hub, store: Store, text: str, reason: str) -> None:
    hub.repositories |= {"me/r": {"r.gguf": b"x"}, "me/data": {"README.md": b"", "train.csv": b"1"}}
    hub.refused = {"me/gated": (403, "GatedRepo"), "me/no": (403, ""), "me/broken": (500, "")}
    with pytest.raises(StoreError) as caught:
        pull(store, text)
    assert str(caught.value) == reason.format(text)
    assert store.models() == []


def test_a_hub_that_is_not_there_is_said(store: Store, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"opening hf\.co/me/r: the hub cannot be reached \(Connect"):
        pull(store, "hf.co/me/r")


def test_a_private_repository_needs_the_token(
    hub: Hub, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["me/r"], hub.token = {"r.gguf": model.read_bytes()}, "hf_secret"
    with pytest.raises(StoreError, match="if it is private, set HF_TOKEN"):
        pull(store, "hf.co/me/r")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert pull(store, "hf.co/me/r") == "hf.co/me/r:latest"


def test_a_revision_is_another_model(hub: Hub, store: Store, model: Path) -> None:
    hub.repositories["me/r"] = {"r.gguf": model.read_bytes()}
    assert pull(store, "hf.co/me/r@old") == "hf.co/me/r:latest-old"
    assert store.config(store.manifest("hf.co/me/r:latest-old")).extra["source"] == f"hf.co/me/r@{OLDER}"
    assert hub.gets() == [f"{OLDER}/r.gguf"]


def test_a_model_of_that_name_made_otherwise_is_not_replaced_unasked(
    hub: Hub, store: Store, model: Path, tmp_path: Path
) -> None:
    hub.repositories["me/r"] = {"r.gguf": model.read_bytes()}
    create(store, "hf.co/me/r", f"FROM {model}\nSYSTEM mine")
    with pytest.raises(StoreError, match="exists and comes from something else; give another name, or --force"):
        pull(store, "hf.co/me/r")
    assert pull(store, "hf.co/me/r", name="other") == "other:latest"
    hub.repositories["me/r"]["r-Q8_0.gguf"] = write_tiny(tmp_path / "q8.gguf", general__name="Q8").read_bytes()
    assert pull(store, "hf.co/me/r:Q8_0", name="other") == "other:latest"
    assert store.model_path("other").read_bytes() == (tmp_path / "q8.gguf").read_bytes()
    pull(store, "hf.co/me/r", refresh=True)
    assert store.manifest("hf.co/me/r").layer("system") is None


def test_a_checkpoint_goes_into_the_hub_s_own_cache_when_it_is_only_a_source(
    hub: Hub, store: Store, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "c", "llama3")
    hub.repositories["me/c"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    path = Path(local_source("hf.co/me/c", store))
    assert path == tmp_path / "hf" / "hub" / "models--me--c" / "snapshots" / COMMIT
    found = try_to_load_from_cache("me/c", "config.json", cache_dir=tmp_path / "hf" / "hub")
    assert found == str(path / "config.json")
    assert {p.name: p.read_bytes() for p in path.iterdir()} == hub.repositories["me/c"]
    del hub.asked[:]
    assert local_source("huggingface.co/me/c", store) == str(path)
    assert hub.asked == []
    made = create(store, "of-hub", "FROM hf.co/me/c")
    assert create(store, "of-folder", f"FROM {folder}").digest == made.digest


def test_from_a_gguf_repository_leaves_it_in_the_store(hub: Hub, store: Store, model: Path) -> None:
    hub.repositories["me/r"] = {"r.gguf": model.read_bytes(), "system": b"theirs"}
    manifest = create(store, "mine", "FROM hf.co/me/r\nPARAMETER seed 1")
    assert [layer.kind for layer in manifest.layers] == ["model", "system", "params"]
    assert [name.short for name in store.models()] == ["hf.co/me/r:latest", "mine:latest"]
    assert store.config(manifest).extra == {}
    before = entries(store)
    create(store, "mine", "FROM hf.co/me/r\nPARAMETER seed 1")
    assert entries(store) == before


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("hf.co/me/r", HubRef("me", "r")),
        ("https://huggingface.co/me/r-1.5_GGUF", HubRef("me", "r-1.5_GGUF")),
        ("HF.co/me/r:Q4_K_M", HubRef("me", "r", None, "Q4_K_M")),
        ("hf.co/me/r@refs/pr/1:Q8_0", HubRef("me", "r", "refs/pr/1", "Q8_0")),
        ("hf.co/me/r:Q8_0@v1.0", HubRef("me", "r", "v1.0", "Q8_0")),
    ],
)
def test_a_reference_has_user_repository_revision_and_quant(text: str, ref: HubRef) -> None:
    assert HubRef.parse(text) == ref


@pytest.mark.parametrize(
    "text", ["hf.co/me", "hf.co/me/r/x", "hf.co/../r", "hf.co/me/..", "hf.co/me/r@a..b", "hf.co/me/r:", "me/r"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        HubRef.parse(text)


def test_a_link_out_of_the_cache_entry_is_refused(store: Store, tmp_path: Path, hub: Hub) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--me--c" / "snapshots" / COMMIT
    write_checkpoint(snapshot, "llama3")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(COMMIT)
    assert local_source("hf.co/me/c", store) == str(snapshot)
    (tmp_path / "secret").write_text("{}")
    (snapshot / "extra.json").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match=r"extra\.json is a link out of models--me--c"):
        local_source("hf.co/me/c", store)


def test_two_pulls_of_one_model_at_a_time_fetch_it_once(hub: Hub, store: Store, model: Path) -> None:
    hub.repositories["me/r"] = {"r.gguf": model.read_bytes()}
    with ThreadPoolExecutor() as pool:
        names = list(pool.map(lambda _: pull(store, "hf.co/me/r"), range(3)))
    assert names == ["hf.co/me/r:latest"] * 3
    assert hub.gets() == [f"{COMMIT}/r.gguf"]


def test_what_is_too_large_for_plain_http_goes_through_the_library(
    hub: Hub, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.create.hub.fetch._MAX_HTTP", 1000)
    hub.repositories["me/r"] = {"r.gguf": model.read_bytes()}
    assert store.model_path(pull(store, "hf.co/me/r")).read_bytes() == model.read_bytes()


def test_a_model_that_ollama_pulled_is_not_fetched_again(
    hub: Hub, store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    create(Store(tmp_path / "ollama"), "hf.co/me/r:Q4_K_M", f"FROM {model}")
    assert create(store, "mine", "FROM hf.co/me/r:Q4_K_M").layers[0].size == model.stat().st_size
    assert hub.asked == []
