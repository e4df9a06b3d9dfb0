from pathlib import Path

import pytest

from puna.create.source import find_files
from puna.errors import ConversionError


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
