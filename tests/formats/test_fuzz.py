"""Damaged files: whatever bytes are changed or cut, a file opens or is a FormatError, and memory stays small."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import FormatError
from puna.formats import Typed, gguf_chunks, open_gguf, open_safetensors

GGUF_FILE = b"".join(
    bytes(chunk)
    for chunk in gguf_chunks(
        {
            "general.architecture": "llama",
            "general.alignment": 32,
            "u64": Typed(1, "UINT64"),
            "yes": True,
            "tokens": ["a", "", "é", "x" * 300, "b", "a", "bc"],
            "types": [1, 2, 3],
            "flags": [True, False],
            "nested": [[1], ["a", "b"]],
            "f64": Typed(0.5, "FLOAT64"),
        },
        [
            ("token_embd.weight", (4, 32), "Q8_0", bytes(136)),
            ("blk.0.w", (2, 3), "F16", bytes(12)),
            ("blk.0.i", (2,), "I32", bytes(8)),
        ],
    )
)
_HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
}
_TEXT = json.dumps(_HEADER).encode()
SAFETENSORS_FILE = struct.pack("<Q", len(_TEXT)) + _TEXT + bytes(22)

LIMIT = 4 << 20  # bytes; the files have about two thousand


def opens_or_is_refused(open_file: Callable[[Path], Any], path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        with open_file(path) as checkpoint:
            for tensor in checkpoint.tensors.values():
                assert tensor.dtype.quantized or tensor.numpy().shape == tensor.shape
                assert tensor.raw.size == tensor.nbytes
            assert len(dict(checkpoint.metadata)) == len(checkpoint.metadata)
    except FormatError:
        pass


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("at", [8, 16, 24, 36, 100, 200, 300])
def test_a_gguf_file_that_lies_about_a_size_takes_no_memory(place: Path, at: int) -> None:
    for size in (2**24, 2**31, 2**40, 2**62, 2**64 - 1):
        content = bytearray(GGUF_FILE)
        for shift in range(32):
            content[at + shift : at + shift + 8] = struct.pack("<Q", size)
            opens_or_is_refused(open_gguf, place, bytes(content))


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content) - 1))
        new = draw(
            st.one_of(
                st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f"])
            )
        )
        content[at : at + len(new)] = new
    return bytes(content[: draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])


@pytest.fixture(scope="module")
def place(tmp_path_factory: Any) -> Path:
    return Path(tmp_path_factory.mktemp("fuzz")) / "m"


@settings(max_examples=300, deadline=None)
@given(content=damaged(GGUF_FILE))
def test_a_damaged_gguf_file_opens_or_is_refused(place: Path, content: bytes) -> None:
    opens_or_is_refused(open_gguf, place, content)


@settings(max_examples=300, deadline=None)
@given(content=damaged(SAFETENSORS_FILE))
def test_a_damaged_safetensors_file_opens_or_is_refused(place: Path, content: bytes) -> None:
    opens_or_is_refused(open_safetensors, place, content)


@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_a_gguf_file_with_any_one_byte_changed_opens_or_is_refused(place: Path, flip: int) -> None:
    for at in range(len(GGUF_FILE)):
        content = bytearray(GGUF_FILE)
        content[at] ^= flip
        opens_or_is_refused(open_gguf, place, bytes(content))


def test_the_undamaged_files_open(place: Path) -> None:
    place.write_bytes(GGUF_FILE)
    assert len(open_gguf(place).tensors) == 3
    place.write_bytes(SAFETENSORS_FILE)
    assert np.count_nonzero(open_safetensors(place).tensors["a"].numpy()) == 0
