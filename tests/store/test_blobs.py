import errno
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from puna.errors import DigestMismatch, StoreError
from puna.store import Store, blobs

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def files(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "blobs").rglob("*") if path.is_file() and path.name != "lock")


def test_a_blob_is_named_by_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.adding() as new:
        layer = new.add_bytes("system", b"abc")
    assert (layer.media_type, layer.digest, layer.size) == ("application/vnd.ollama.image.system", ABC, 3)
    assert (tmp_path / "blobs" / ABC.replace(":", "-")).read_bytes() == b"abc"


def test_bytes_that_do_not_hash_to_their_digest_never_get_a_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(DigestMismatch, match=ABC), store.adding() as new:
        new.add_stream("model", [b"ab", b"d"], what="a file", digest=ABC)
    assert files(store) == []


def test_a_copied_file_does_not_follow_later_changes_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    store = Store(tmp_path / "store")
    with store.adding() as new:
        layer = new.add_file("model", tmp_path / "source")
    (tmp_path / "source").write_bytes(b"xyz")
    assert store.blob_path(layer.digest).read_bytes() == b"abc"


def test_a_hard_link_takes_no_second_copy_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "_clone", lambda source, target: False)
    (tmp_path / "source").write_bytes(b"abc")
    store = Store(tmp_path / "store")
    for _ in range(2):  # the second time the blob is there
        with store.adding() as new:
            layer = new.add_file("model", tmp_path / "source", link=True)
    assert layer.digest == ABC
    assert os.path.samefile(tmp_path / "source", store.blob_path(ABC))
    assert files(store) == [ABC.replace(":", "-")]


@pytest.mark.parametrize("link", [True, False])
def test_where_files_cannot_be_cloned_or_linked_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_bytes(b"abc")
    store = Store(tmp_path / "store")
    with store.adding() as new:
        layer = new.add_file("model", tmp_path / "source", link=link)
    assert store.blob_path(layer.digest).read_bytes() == b"abc"
    assert files(store) == [ABC.replace(":", "-")]


def test_a_damaged_blob_of_another_size_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.blob_path(ABC)
    path.parent.mkdir()
    path.write_bytes(b"ab")
    with store.adding() as new:
        new.add_bytes("system", b"abc")
    assert path.read_bytes() == b"abc"


def test_a_full_disk_is_one_error_with_the_sizes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(StoreError, match=r"storing the system: the disk of .* is full \(.* free\)"),
        store.adding() as new,
    ):
        new.add_bytes("system", b"abc")
    assert files(store) == []


def test_a_file_larger_than_allowed_is_one_error_that_says_so(tmp_path: Path) -> None:
    large = pytest.raises(StoreError, match=r"storing a model: .* takes no file so large; set PUNA_MODELS")
    with large, blobs.storing("a model", tmp_path):
        raise OSError(errno.EFBIG, "File too large")


def test_a_file_that_cannot_fit_is_refused_before_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 8, 2))
    monkeypatch.setattr(blobs, "_clone", lambda source, target: False)
    (tmp_path / "source").write_bytes(b"abc")
    store = Store(tmp_path / "store")
    with pytest.raises(StoreError, match=r"3 B needed, 2 B free"), store.adding() as new:
        new.add_file("model", tmp_path / "source")
    assert files(store) == []


def test_ctrl_c_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"abc"
        raise KeyboardInterrupt

    store = Store(tmp_path)
    with store.adding() as new:
        kept = new.add_bytes("license", b"kept")
    layers = [b"kept", b"a blob that is finished"]
    with pytest.raises(KeyboardInterrupt), store.adding() as new:
        _ = [new.add_bytes("license", layer) for layer in layers], new.add_stream("model", chunks(), what="a file")
    assert files(store) == [kept.digest.replace(":", "-")]


def test_temporaries_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dead = tmp_path / "blobs" / ".puna" / "0123456789abcdef"
    dead.mkdir(parents=True)
    (dead / "half").write_bytes(b"half a model")
    with store.adding() as first:
        assert not dead.exists()
        with Store(tmp_path).adding():
            assert first.temporary.is_dir()
        assert first.temporary.is_dir()
        assert first.add_bytes("system", b"abc").digest == ABC
    assert not first.temporary.exists()


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:" + "g" * 64, "sha256:../" + "a" * 61, "md5:" + "a" * 64, None]
)
def test_a_digest_that_is_none_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(StoreError, match="not a digest"):
        Store(tmp_path).blob_path(digest)


def test_a_clone_is_taken_where_the_file_system_makes_one_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ficlone(target: int, request: int, source: int) -> int:  # as Btrfs and XFS do
        assert request == 0x40049409
        os.write(target, os.pread(source, 100, 0))
        return 0

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("fcntl.ioctl", ficlone)
    (tmp_path / "source").write_bytes(b"abc")
    store, said = Store(tmp_path / "store"), set[str]()
    with store.adding() as new:
        layer = new.add_file("model", tmp_path / "source", link=True, on_progress=lambda status, *_: said.add(status))
    assert layer.digest == ABC
    assert not os.path.samefile(tmp_path / "source", store.blob_path(ABC))
    assert said == {f"storing {tmp_path / 'source'} (a clone)"}
    assert store.origin(ABC) is None


def test_a_finished_file_is_taken_over_without_copying(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "came").write_bytes(b"abc")
    number = (tmp_path / "came").stat().st_ino
    with store.adding() as new:
        assert new.adopt("model", tmp_path / "came", digest=ABC).digest == ABC
    assert store.blob_path(ABC).stat().st_ino == number
    assert not (tmp_path / "came").exists()
