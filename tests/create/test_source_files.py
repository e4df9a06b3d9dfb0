from pathlib import Path

import pytest

from puna.create.source import find_files, find_weights
from puna.errors import ConversionError, StoreError


def lay(root: Path, *names: str, content: bytes = b"\x00\x01") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_safetensors_come_with_nested_modules_and_every_json(tmp_path: Path) -> None:
    lay(tmp_path, "model.safetensors", "2_Dense/model.safetensors", "consolidated.safetensors", "pytorch_model.bin")
    lay(tmp_path, "config.json", "1_Pooling/config.json", "tokenizer.model", "chat_template.jinja", "README.md")
    assert find_files(tmp_path) == [
        *("model.safetensors", "2_Dense/model.safetensors", "config.json", "1_Pooling/config.json"),
        *("chat_template.jinja", "tokenizer.model"),
    ]


@pytest.mark.parametrize(
    ("weights", "content"),
    [
        ("consolidated.00.pth", b"PK\x03\x04"),
        ("pytorch_model.bin", b"PK\x03\x04"),
        ("pytorch_model.bin", b"\x80\x02"),
        ("tiny.gguf", b"GGUF\x03\x00"),
        ("tiny.bin", b"GGUF\x03\x00"),
    ],
)
def test_other_kinds_of_weights_are_known_by_name_and_first_bytes(tmp_path: Path, weights: str, content: bytes) -> None:
    lay(tmp_path, weights, content=content)
    assert find_files(str(tmp_path)) == [weights]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b"{}", "no weights"),
        ("sub/model.safetensors", b"", "no weights"),
        ("pytorch_model.bin", b"<html>", "is not a binary file of weights"),
        ("model.gguf", b"not found", "is not a binary file of weights"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_a_directory_without_real_weights_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    lay(tmp_path, name, content=content)
    with pytest.raises(ConversionError, match=reason):
        find_files(tmp_path)


def test_hidden_files_and_caches_are_left_out(tmp_path: Path) -> None:
    lay(tmp_path, "model.safetensors", ".hidden.json", ".cache/x.json")
    assert find_files(tmp_path) == ["model.safetensors"]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    lay(tmp_path, "model.safetensors")
    with pytest.raises(ConversionError, match="not a directory"):
        find_files(tmp_path / "model.safetensors")


def test_a_checkpoint_one_folder_deeper_is_found(tmp_path: Path) -> None:
    lay(tmp_path, "package/config.json", "package/model.safetensors", "README.md", "data/config.json")
    assert find_weights(tmp_path) == tmp_path / "package"
    lay(tmp_path, "config.json", "model.safetensors")
    assert find_weights(tmp_path) == tmp_path


def test_a_pipeline_of_components_names_them(tmp_path: Path) -> None:
    lay(tmp_path, "model_index.json", "text_encoder/config.json", "text_encoder/model.safetensors", "vae/config.json")
    lay(tmp_path, "vae/model.safetensors", "scheduler/config.json")
    with pytest.raises(ConversionError, match="it is a pipeline of text_encoder, vae; one of these directories works"):
        find_weights(tmp_path)
    assert find_weights(tmp_path / "text_encoder") == tmp_path / "text_encoder"


def test_a_directory_of_one_gguf_model_means_that(tmp_path: Path) -> None:
    lay(tmp_path, "config.json", "mmproj-m.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", content=b"GGUF\x03")
    assert find_weights(tmp_path) == tmp_path / "m-00001-of-00002.gguf"
    lay(tmp_path, "other.gguf", content=b"GGUF\x03")
    with pytest.raises(ConversionError, match=r"it holds 2 GGUF models, m\.gguf, other\.gguf; name one of them"):
        find_weights(tmp_path)
    lay(tmp_path, "model.safetensors")
    assert find_weights(tmp_path) == tmp_path


COMMITS = ("a" * 40, "b" * 40)


def test_an_entry_of_the_hub_s_cache_means_its_main_snapshot(tmp_path: Path) -> None:
    entry = tmp_path / "models--me--m"
    lay(entry, f"snapshots/{COMMITS[0]}/config.json", "blobs/1")
    (entry / "snapshots" / COMMITS[0] / "model.safetensors").symlink_to("../../blobs/1")
    assert find_weights(entry) == entry / "snapshots" / COMMITS[0]
    lay(entry, f"snapshots/{COMMITS[1]}/config.json")
    with pytest.raises(StoreError, match="it has 2 snapshots, aaaaaaaaaaaa, bbbbbbbbbbbb; name one of them"):
        find_weights(entry)
    lay(entry, "refs/main", content=COMMITS[1].encode())
    assert find_weights(entry) == entry / "snapshots" / COMMITS[1]
    assert find_weights(entry / "snapshots" / COMMITS[0]) == entry / "snapshots" / COMMITS[0]


def test_a_link_out_of_a_cache_entry_is_refused(tmp_path: Path) -> None:
    entry = tmp_path / "models--me--m"
    lay(entry, f"snapshots/{COMMITS[0]}/config.json")
    lay(tmp_path, "secret.safetensors")
    (entry / "snapshots" / COMMITS[0] / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    for path in (entry, entry / "snapshots" / COMMITS[0]):
        with pytest.raises(StoreError, match=r"model\.safetensors is a link out of models--me--m"):
            find_weights(path)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("../../..")
    with pytest.raises(StoreError, match="is a link out"):
        find_weights(entry)
