"""Damaged PyTorch files: whatever bytes are changed or cut, a file opens or is a FormatError; memory stays small."""

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.torch_files import Call, Global, legacy_file, storage, tensor, zip_file
from puna.errors import FormatError
from puna.formats.torch_pickle import open_torch

SIX = struct.pack("<6f", 0, 1, 2, 3, 4, 5)
TYPED = Call(
    "torch._utils._rebuild_tensor_v3",
    (
        *(storage("1", 4, "torch.storage.UntypedStorage"), 0, (2, 2), (2, 1), False),
        *(Call("collections.OrderedDict"), Global("torch.float8_e4m3fn")),
    ),
)
VALUE = {
    "state_dict": {
        "a": tensor(storage("0", 6), (2, 3), (3, 1)),
        "t": tensor(storage("0", 6), (3, 2), (1, 3)),
        "f": TYPED,
    },
    "epoch": 3,
    "lr": [0.5, 2**40],
}
ZIP = zip_file(VALUE, {"0": SIX, "1": b"\x38\x40\xb8\0"}, byteorder="little")
LEGACY = legacy_file(VALUE, {"0": (6, SIX), "1": (4, b"\x38\x40\xb8\0")})
FILES = {"zip": ZIP, "legacy": LEGACY}
LIMIT = 4 << 20  # bytes; the files have about a thousand


def opens_or_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        with open_torch(path) as checkpoint:
            for tensor in checkpoint.tensors.values():
                if tensor.nbytes <= 1000:
                    assert tensor.numpy().shape == tensor.shape
    except FormatError:
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: Any) -> Path:
    return Path(tmp_path_factory.mktemp("fuzz")) / "m"


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_a_file_with_any_one_byte_changed_opens_or_is_refused(place: Path, kind: str, flip: int) -> None:
    for at in range(len(FILES[kind])):
        content = bytearray(FILES[kind])
        content[at] ^= flip
        opens_or_is_refused(place, bytes(content))


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_opens_or_is_refused(place: Path, kind: str) -> None:
    for end in range(len(FILES[kind])):
        opens_or_is_refused(place, FILES[kind][:end])


@st.composite
def damaged(draw: Any) -> bytes:
    content = bytearray(draw(st.sampled_from([ZIP, LEGACY])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 1))
        new = draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from([b"\xff" * 4, b"\xff" * 8, bytes(8), b"h\0", b"R", b"(t", b"b", b"Q", b"\x85", b"N."]),
            )
        )
        if draw(st.booleans()):
            content[at : at + len(new)] = new
        else:
            content[at:at] = new
    return bytes(content)


@settings(max_examples=400, deadline=None)
@given(content=damaged())
def test_a_damaged_file_opens_or_is_refused(place: Path, content: bytes) -> None:
    opens_or_is_refused(place, content)


def test_the_undamaged_files_open(place: Path) -> None:
    for content in FILES.values():
        place.write_bytes(content)
        with open_torch(place) as checkpoint:
            assert {name: each.numpy().tolist() for name, each in checkpoint.tensors.items()} == {
                "a": [[0, 1, 2], [3, 4, 5]],
                "t": [[0, 3], [1, 4], [2, 5]],
                "f": [[1, 2], [-1, 0]],
            }
            assert dict(checkpoint.metadata) == {"epoch": 3, "lr": (0.5, 2**40)}
