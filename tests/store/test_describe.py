from pathlib import Path

import gguf
import numpy as np
import pytest

from puna.errors import FormatError, StoreError
from puna.store.describe import describe_gguf, readable_count
from store.ggufs import write_gguf


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (134_515_008, "134.52M"),
        (8_030_261_248, "8.0B"),
        (8_000_000_000, "8B"),
        (7_000_000, "7M"),
        (1_536, "2K"),
        (999, "999"),
    ],
)
def test_parameters_are_counted_as_ollama_prints_them(number: int, text: str) -> None:
    assert readable_count(number) == text


def test_a_model_is_described_by_its_header(tmp_path: Path) -> None:
    config = describe_gguf(write_gguf(tmp_path / "m.gguf", "qwen3"))
    assert (config.model_format, config.model_family, config.model_families) == ("gguf", "qwen3", ["qwen3"])
    assert (config.model_type, config.file_type) == ("2K", "Q8_0")


def test_without_a_file_type_the_type_of_most_bytes_counts(tmp_path: Path) -> None:
    data = write_gguf(tmp_path / "m.gguf").read_bytes()
    (tmp_path / "n.gguf").write_bytes(data.replace(b"general.file_type", b"general.file_typo"))
    assert describe_gguf(tmp_path / "n.gguf").file_type == "F32"  # 2,048 bytes against 1,088


def test_a_file_type_that_is_no_number_does_not_count(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    writer.add_array("general.file_type", [7, 8])
    writer.add_tensor("output.weight", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert describe_gguf(tmp_path / "m.gguf").file_type == "F32"


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    data = write_gguf(tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(data[:-100])
    with pytest.raises(FormatError):
        describe_gguf(tmp_path / "m.gguf")


def test_a_vocabulary_without_tensors_is_no_model(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "v.gguf"), "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(StoreError, match="no tensors"):
        describe_gguf(tmp_path / "v.gguf")
