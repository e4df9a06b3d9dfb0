"""Reading GGUF: files made by hand, byte by byte, and by the `gguf` package."""

import gc
import mmap
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from puna.dtypes import BY_GGML_ID
from puna.errors import FormatError
from puna.formats import open_gguf, write_gguf

U32, STRING, ARRAY = 4, 8, 9

# The package still has Q8_1's old layout with two float32; in ggml it has two float16 since 2024.
SIZES = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()} | {9: (32, 2 + 2 + 32)}


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(item: int, count: int, items: bytes) -> bytes:
    return struct.pack("<IQ", item, count) + items


def info(name: str, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def file(pairs: list[bytes], infos: list[bytes], data: bytes = b"", version: int = 3, counts: Any = None) -> bytes:
    n_tensors, n_pairs = counts or (len(infos), len(pairs))
    head = struct.pack("<4sIQQ", b"GGUF", version, n_tensors, n_pairs) + b"".join(pairs + infos)
    return head + bytes(-len(head) % 32) + data


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], Path]:
    def save(content: bytes) -> Path:
        path = tmp_path / "m.gguf"
        path.write_bytes(content)
        return path

    return save


def test_a_hand_made_file_of_every_scalar_type_reads_as_written(saved: Any) -> None:
    pairs = [
        pair("u8", 0, b"\xff"),
        pair("i8", 1, b"\xff"),
        pair("u16", 2, b"\xfe\xff"),
        pair("i16", 3, b"\xfe\xff"),
        pair("u32", 4, b"\x01\0\0\x80"),
        pair("i32", 5, b"\x01\0\0\x80"),
        pair("f32", 6, b"\0\0\x20\xc0"),
        pair("yes", 7, b"\x01"),
        pair("text", 8, text("é")),
        pair("u64", 10, b"\xff" * 8),
        pair("i64", 11, b"\xff" * 8),
        pair("f64", 12, struct.pack("<d", 0.1)),
    ]
    with open_gguf(saved(file(pairs, []))) as g:
        assert dict(g.metadata) == {
            "u8": 255,
            "i8": -1,
            "u16": 65534,
            "i16": -2,
            "u32": 2147483649,
            "i32": -2147483647,
            "f32": -2.5,
            "yes": True,
            "text": "é",
            "u64": 18446744073709551615,
            "i64": -1,
            "f64": 0.1,
        }
        assert type(g.metadata["yes"]) is bool
        assert g.metadata.types["u8"] == "UINT8"
        assert g.metadata.types["f64"] == "FLOAT64"
        assert list(g.metadata) == ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "yes", "text", "u64", "i64", "f64"]


def test_arrays_read_as_lists_of_text_arrays_of_numbers_and_lists_of_arrays(saved: Any) -> None:
    pairs = [
        pair("words", ARRAY, array(STRING, 3, text("a") + text("") + text("ß"))),
        pair("numbers", ARRAY, array(5, 2, struct.pack("<2i", -1, 7))),
        pair("flags", ARRAY, array(7, 2, b"\x01\0")),
        pair("nested", ARRAY, array(ARRAY, 2, array(0, 1, b"\x05") + array(STRING, 1, text("x")))),
        pair("none", ARRAY, array(STRING, 0, b"")),
    ]
    with open_gguf(saved(file(pairs, []))) as g:
        assert g.metadata["words"] == ["a", "", "ß"]
        assert g.metadata["numbers"].dtype == np.int32
        assert g.metadata["numbers"].tolist() == [-1, 7]
        assert g.metadata["flags"].tolist() == [True, False]
        assert g.metadata["nested"][0].tolist() == [5]
        assert g.metadata["nested"][1] == ["x"]
        assert g.metadata["none"] == []
        assert g.metadata.types["words"] == "ARRAY[STRING]"
        with pytest.raises(ValueError, match="read-only"):
            g.metadata["numbers"][0] = 1


def test_token_pieces_that_are_not_utf8_survive(saved: Any) -> None:
    pieces = [b"\xc3", b"\xa9", b"\xff\xfe", b"ok", b"\xe2\x82"]
    content = file(
        [pair("t", ARRAY, array(STRING, 5, b"".join(map(text, pieces)))), pair("s", STRING, text(b"\x80"))], []
    )
    with open_gguf(saved(content)) as g:
        assert [token.encode("utf-8", "surrogateescape") for token in g.metadata["t"]] == pieces
        assert g.metadata["s"] == "\udc80"
        with open_gguf(write(saved(content).with_name("copy.gguf"), g.metadata)) as copy:
            assert copy.metadata["t"] == g.metadata["t"]


def write(path: Path, metadata: Any) -> Path:
    write_gguf(path, metadata, [])
    return path


@pytest.mark.parametrize(
    "strings",
    [
        [b"x" * n for n in range(600)],
        [b""] * 1000,
        [b"a\0b", b"\0", b"\0" * 9, b"plain", b"\x05\0\0\0\0\0\0\0", b"\0" * 7 + b"z"] * 50,
        [b"short"] * 100_000,
        [b"y" * 70_000] * 9,
        [bytes([n % 255 + 1]) * (n % 20) for n in range(50_000)],
        [struct.pack("<Q", 3) + b"abc"] * 400,
    ],
    ids=["every length", "empty", "zero bytes", "many", "longer than a window part", "mixed", "looks like strings"],
)
def test_string_arrays_of_every_kind_are_found_whole(saved: Any, strings: list[bytes]) -> None:
    content = file(
        [
            pair("t", ARRAY, array(STRING, len(strings), b"".join(map(text, strings)))),
            pair("after", U32, b"\x2a\0\0\0"),
        ],
        [],
    )
    with open_gguf(saved(content)) as g:
        assert g.metadata["after"] == 42
        assert [token.encode("utf-8", "surrogateescape") for token in g.metadata["t"]] == strings


def test_a_tensor_has_its_row_major_shape_its_place_and_its_values(saved: Any) -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    content = file([], [info("w", (3, 2), 0, 0), info("h", (2,), 1, 32)], values.tobytes() + bytes(8) + b"\0\x3c\0\xc0")
    with open_gguf(saved(content)) as g:
        w, h = g.tensors["w"], g.tensors["h"]
        assert list(g.tensors) == ["w", "h"]
        assert (w.name, w.shape, str(w.dtype), w.nbytes) == ("w", (2, 3), "F32", 24)
        assert w.offset % 32 == 0
        assert content[w.offset : w.offset + 24] == w.raw.tobytes() == values.tobytes()
        assert w.numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
        assert h.numpy().dtype == np.float32
        assert h.numpy().tolist() == [1.0, -2.0]


def test_version_2_reads_like_version_3(saved: Any) -> None:
    with open_gguf(saved(file([pair("k", U32, b"\x01\0\0\0")], [], version=2))) as g:
        assert g.version == 2
        assert g.metadata["k"] == 1


def test_every_ggml_type_has_the_size_that_ggml_gives_it() -> None:
    assert {number: (dtype.block_size, dtype.block_bytes) for number, dtype in BY_GGML_ID.items()} == SIZES


@pytest.mark.parametrize("number", sorted(SIZES))
def test_every_ggml_type_opens_with_its_bytes(saved: Any, number: int) -> None:
    size, nbytes = SIZES[number]
    data = bytes(range(256)) * (2 * nbytes // 256 + 1)
    with open_gguf(saved(file([], [info("t", (size, 2), number, 0)], data[: 2 * nbytes]))) as g:
        assert g.tensors["t"].shape == (2, size)
        assert g.tensors["t"].raw.tobytes() == data[: 2 * nbytes]


def test_what_the_gguf_package_writes_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.LITTLE)
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.eps", 0.5)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_token_list(["<s>", "a", "é", "Ġthe"])
    writer.add_token_types([3, 1, 1, 1])
    writer.add_token_scores([0.0, -1.5, -2.0, -3.0])
    writer.add_custom_alignment(64)
    weights = np.linspace(-1, 1, 96, dtype=np.float32).reshape(3, 32)
    writer.add_tensor("f32", weights)
    writer.add_tensor("f16", weights.astype(np.float16))
    writer.add_tensor(
        "q8", gguf.quantize(weights, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_gguf(path) as g:
        assert (g.version, g.alignment) == (3, 64)
        assert g.metadata["general.architecture"] == "llama"
        assert g.metadata["llama.eps"] == 0.5
        assert g.metadata["tokenizer.ggml.add_bos_token"] is True
        assert g.metadata["tokenizer.ggml.tokens"] == ["<s>", "a", "é", "Ġthe"]
        assert g.metadata["tokenizer.ggml.token_type"].tolist() == [3, 1, 1, 1]
        assert g.metadata["tokenizer.ggml.scores"].tolist() == [0.0, -1.5, -2.0, -3.0]
        assert {name: (each.shape, str(each.dtype)) for name, each in g.tensors.items()} == {
            "f32": ((3, 32), "F32"),
            "f16": ((3, 32), "F16"),
            "q8": ((3, 32), "Q8_0"),
        }
        np.testing.assert_array_equal(g.tensors["f32"].numpy(), weights)
        np.testing.assert_array_equal(g.tensors["f16"].numpy(), weights.astype(np.float16).astype(np.float32))
        assert g.tensors["q8"].raw.tobytes() == gguf.quantize(weights, gguf.GGMLQuantizationType.Q8_0).tobytes()


ONE = pair("k", U32, b"\x01\0\0\0")
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "short": (b"GGUF\x03\0\0", r"at byte 0: the header"),
    "not gguf": (b"PK\x03\x04" + bytes(40), "no GGUF file: it begins with"),
    "version 1": (file([], [], version=1), "version 1 .* convert the original"),
    "version 4": (file([], [], version=4), "version 4 is unknown; versions 2 and 3"),
    "big-endian": (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "big-endian"),
    "pair count": (file([ONE], [], counts=(0, 2**60)), f"{2**60} metadata keys are more than"),
    "tensor count": (file([ONE], [], counts=(2**63, 1)), f"{2**63} tensors"),
    "key length": (file([struct.pack("<Q", 2**63) + b"k" * 20], []), "metadata key 0 of 9223372036854775808 bytes"),
    "empty key": (file([pair("", U32, bytes(4))], []), "metadata key 0 is empty"),
    "key bytes": (file([pair(b"a\xff", U32, bytes(4))], []), r"at byte 33: metadata key 0 is not UTF-8"),
    "key twice": (file([ONE, ONE], []), r"at byte 41: the key 'k' is there twice"),
    "value type": (file([pair("k", 13, bytes(8))], []), "key 'k' has the unknown type 13"),
    "bool": (file([pair("k", 7, b"\x02")], []), "key 'k' is the bool 2"),
    "bool array": (file([pair("k", ARRAY, array(7, 2, b"\x01\x02"))], []), "key 'k' has a bool"),
    "string length": (
        file([pair("k", STRING, struct.pack("<Q", 999))], []),
        "key 'k' of 999 bytes reaches past the end",
    ),
    "array count": (file([pair("k", ARRAY, array(U32, 2**62, b""))], []), f"key 'k' has {2**62} items of UINT32"),
    "string count": (file([pair("k", ARRAY, array(STRING, 9, text("a")))], []), "key 'k' has 9 items of STRING"),
    "item type": (file([pair("k", ARRAY, array(99, 0, b""))], []), "the items of key 'k' has the unknown type 99"),
    "string in array": (
        file([pair("k", ARRAY, array(STRING, 3, text("a") + text("b") + struct.pack("<Q", 200)))], [], bytes(64)),
        "string 2 in key 'k'",
    ),
    "nesting": (file([pair("k", ARRAY, array(ARRAY, 1, b"") * 9 + array(0, 1, b"\0"))], []), "nested deeper than 4"),
    "alignment": (
        file([pair("general.alignment", U32, b"\x30\0\0\0")], []),
        "'general.alignment': 48 is no power of two",
    ),
    "alignment 0": (file([pair("general.alignment", U32, bytes(4))], []), "0 is no power of two"),
    "alignment type": (file([pair("general.alignment", STRING, text("32"))], []), "'32' is no power of two"),
    "dimensions": (file([], [info("t", (1,) * 5, 0, 0)], bytes(64)), "tensor 't' has 5 dimensions"),
    "many dimensions": (
        file([], [text("t") + struct.pack("<I", 2**32 - 1) + bytes(16)], bytes(64)),
        "has 4294967295 dimensions",
    ),
    "tensor type": (file([], [info("t", (1,), 99, 0)], bytes(64)), "tensor 't' has the unknown type 99"),
    "removed type": (file([], [info("t", (32,), 4, 0)], bytes(64)), "tensor 't' has the unknown type 4"),
    "row": (file([], [info("t", (100,), 12, 0)], bytes(640)), "tensor 't': Q4_K: row of 100 is not a multiple"),
    "offset": (file([], [info("t", (1,), 0, 8)], bytes(64)), "offset 8, no multiple of the alignment 32"),
    "past the end": (file([], [info("t", (17,), 0, 0)], bytes(64)), "tensor 't' .* past the end of the file"),
    "offset past the end": (file([], [info("t", (1,), 0, 2**64 - 32)], bytes(64)), "past the end of the file"),
    "product": (file([], [info("t", (2**32, 2**32, 2**32, 2**32), 0, 0)]), "tensor 't': shape .* more elements"),
    "product with zero": (file([], [info("t", (2**63, 2**63, 0), 0, 0)]), "tensor 't': shape .* more elements"),
    "overlap": (
        file([], [info("a", (16,), 0, 0), info("b", (8,), 0, 32)], bytes(64)),
        "tensors 'a' and 'b' overlap",
    ),
    "tensor twice": (
        file([], [info("a", (8,), 0, 0), info("a", (8,), 0, 32)], bytes(64)),
        "tensor 'a' is there twice",
    ),
    "tensor name": (file([], [text(b"\xff") + struct.pack("<IQIQ", 1, 1, 0, 0)], bytes(64)), "tensor 0 is not UTF-8"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_what_is_wrong_and_where(saved: Any, case: str) -> None:
    content, message = BROKEN[case]
    path = saved(content)
    with pytest.raises(FormatError, match=message) as raised:
        open_gguf(path)
    assert str(raised.value).startswith("reading m.gguf: ")


def test_a_file_cut_anywhere_is_refused(saved: Any) -> None:
    pairs = [
        pair("general.architecture", STRING, text("x")),
        pair("t", ARRAY, array(STRING, 2, text("ab") + text("c"))),
    ]
    whole = file(pairs, [info("w", (8,), 0, 0)], bytes(32))
    assert list(open_gguf(saved(whole)).tensors) == ["w"]
    for size in range(len(whole)):
        with pytest.raises(FormatError):
            open_gguf(saved(whole[:size]))


def test_arrays_outlive_closing_and_new_ones_are_refused(saved: Any) -> None:
    g = open_gguf(saved(file([ONE], [info("w", (2,), 0, 0)], struct.pack("<2f", 1, 2))))
    before = g.tensors["w"].numpy()
    g.close()
    g.close()
    assert before.tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"m\.gguf: the file was closed"):
        _ = g.tensors["w"].raw
    with pytest.raises(ValueError, match="closed"):
        _ = g.metadata["k"]


def test_mapped_values_can_not_be_written_to(saved: Any) -> None:
    with open_gguf(saved(file([], [info("w", (2,), 0, 0)], bytes(8)))) as g:
        assert not g.tensors["w"].raw.flags.writeable
        assert not g.tensors["w"].numpy().flags.writeable


def test_no_map_is_left_after_closing_dropping_or_refusing_a_file(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[mmap.mmap]] = []

    class Watched(mmap.mmap):
        def __new__(cls, *args: Any, **options: Any) -> "Watched":
            made.append(weakref.ref(new := super().__new__(cls, *args, **options)))
            return new

    monkeypatch.setattr("puna.formats.mapped.mmap.mmap", Watched)
    good = file([ONE], [info("w", (2,), 0, 0)], bytes(8))
    with open_gguf(saved(good)) as g:
        kept = g.tensors["w"].raw
    dropped = open_gguf(saved(good))
    assert dropped.metadata["k"] == 1
    del dropped
    with pytest.raises(FormatError):
        open_gguf(saved(good[:-1]))
    gc.collect()
    assert [ref() is not None for ref in made] == [True, False, False]
    assert kept.tolist() == [0] * 8
    del kept
    assert made[0]() is None
