"""Safetensors: against the `safetensors` package, against files made by hand, shard sets, and broken headers."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import FormatError
from puna.formats import open_safetensors, write_safetensors


def entry(begin: int, end: int, shape: Any = None, dtype: Any = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def content(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def saved(tmp_path: Path, header: Any, data: bytes = b"", name: str = "m.safetensors") -> Path:
    path = tmp_path / name
    path.write_bytes(content(header, data))
    return path


def test_what_the_safetensors_package_writes_is_read_whole(tmp_path: Path) -> None:
    arrays = {
        "f64": np.array([[0.5], [2.0]]),
        "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f16": np.array([1, -2], np.float16),
        "i8": np.array([-1], np.int8),
        "i16": np.array([-1], np.int16),
        "i32": np.array([-1], np.int32),
        "i64": np.array([-1], np.int64),
        "u8": np.array([255], np.uint8),
        "u16": np.array([65535], np.uint16),
        "u32": np.array([2**32 - 1], np.uint32),
        "u64": np.array([2**64 - 1], np.uint64),
        "bool": np.array([True, False]),
        "scalar": np.array(3, np.int32),
        "none": np.zeros((0, 4), np.float32),
    }
    safetensors.numpy.save_file(arrays, tmp_path / "m.safetensors", {"format": "np"})
    with open_safetensors(tmp_path / "m.safetensors") as checkpoint:
        assert dict(checkpoint.metadata) == {"format": "np"}
        assert set(checkpoint.tensors) == set(arrays)
        for name, array in arrays.items():
            tensor = checkpoint.tensors[name]
            assert tensor.shape == array.shape
            assert tensor.raw.tobytes() == array.tobytes()
            np.testing.assert_array_equal(tensor.numpy(), array)
        assert str(checkpoint.tensors["bool"].dtype) == "BOOL"
        assert checkpoint.tensors["f16"].numpy().dtype == np.float32


def test_the_safetensors_package_reads_what_is_written(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "é": np.array([1, 2], ">i8"),
        "n": np.zeros((2, 0), "?"),
    }
    write_safetensors(tmp_path / "m.safetensors", arrays, {"format": "np"})
    theirs = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert set(theirs) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(theirs[name], array)


def test_bf16_and_8_bit_floats_read_as_float32_and_copy_byte_for_byte(tmp_path: Path) -> None:
    header = {"b": entry(0, 4, [2], "BF16"), "e4": entry(4, 5, dtype="F8_E4M3"), "e5": entry(5, 6, dtype="F8_E5M2")}
    path = saved(tmp_path, header, b"\x80\x3f\0\xc0" + b"\x38" + b"\x3c")
    with open_safetensors(path) as checkpoint:
        assert {name: tensor.numpy().tolist() for name, tensor in checkpoint.tensors.items()} == {
            "b": [1.0, -2.0],
            "e4": [1.0],
            "e5": [1.0],
        }
        write_safetensors(tmp_path / "copy.safetensors", checkpoint.tensors)
    with open_safetensors(tmp_path / "copy.safetensors") as copy:
        assert [(name, str(each.dtype)) for name, each in copy.tensors.items()] == [
            ("b", "BF16"),
            ("e4", "F8_E4M3"),
            ("e5", "F8_E5M2"),
        ]
        assert b"".join(each.raw.tobytes() for each in copy.tensors.values()) == b"\x80\x3f\0\xc0\x38\x3c"


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "short": (b"1234567", "7 bytes are no safetensors file"),
    "header length": (struct.pack("<Q", 2**63) + b"{}", "a header of 9223372036854775808 bytes"),
    "header past the end": (struct.pack("<Q", 3) + b"{}", "a header of 3 bytes .* in a file of 10"),
    "json": (content(b"{"), "JSON is broken"),
    "utf-8": (content(b'{"\xff": 1}'), "JSON is broken"),
    "deep json": (content(b'{"a":' + b"[" * 100_000), "JSON is broken"),
    "huge number": (content(b'{"a":' + b"9" * 10_000 + b"}"), "JSON is broken"),
    "no object": (content([]), "no object"),
    "name twice": (content(b'{"a":{},"a":{}}'), "'a' is there twice"),
    "field twice": (
        content(b'{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x"),
        "'dtype' is there",
    ),
    "metadata": (content({"__metadata__": {"a": 1}}), "__metadata__"),
    "entry": (content({"a": []}), "tensor 'a': it has not just dtype"),
    "fields": (content({"a": {"dtype": "U8", "shape": [1]}}), "tensor 'a': it has not just dtype"),
    "dtype": (content({"a": entry(0, 1, dtype="F6_E2M3")}, b"x"), "tensor 'a': dtype 'F6_E2M3' is unknown; known: F32"),
    "block dtype": (content({"a": entry(0, 18, [32], "Q4_0")}, bytes(18)), "dtype 'Q4_0' is unknown"),
    "dtype type": (content({"a": entry(0, 1, dtype=["U8"])}, b"x"), "is unknown"),
    "shape type": (content({"a": entry(0, 1, [1.0])}, b"x"), "no sizes"),
    "shape bool": (content({"a": entry(0, 1, [True])}, b"x"), "no sizes"),
    "negative shape": (content({"a": entry(0, 1, [-1, -1])}, b"x"), "no sizes"),
    "dimensions": (content({"a": entry(0, 1, [1] * 33)}, b"x"), "no sizes"),
    "range backwards": (content({"a": entry(1, 0, [1])}, b"x"), "no range"),
    "negative range": (content({"a": entry(-1, 0, [1])}, b"x"), "no range"),
    "past the end": (content({"a": entry(0, 2)}, b"x"), r"tensor 'a': bytes \(0, 2\) of 1"),
    "size": (content({"a": entry(0, 4, [2], "F32")}, bytes(4)), r"F32 \(2,\) needs 8 bytes, its range \(0, 4\) has 4"),
    "product": (content({"a": entry(0, 0, [2**62, 2**62, 4])}), "more elements"),
    "product with zero": (content({"a": entry(0, 0, [2**63, 2**63, 0])}), "more elements"),
    "overlap": (content({"a": entry(0, 2), "b": entry(1, 3)}, b"xyz"), "tensor 'a' and tensor 'b' overlap"),
    "hole": (
        content({"a": entry(0, 1), "b": entry(2, 3)}, b"xyz"),
        "tensor 'a' and tensor 'b' leave a hole of 1 bytes",
    ),
    "hole at first": (content({"a": entry(1, 2)}, b"xy"), "the header and tensor 'a' leave a hole"),
    "rest": (content({"a": entry(0, 1)}, b"xy"), "1 bytes follow the last tensor"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_what_is_wrong(tmp_path: Path, case: str) -> None:
    broken, message = BROKEN[case]
    path = tmp_path / "m.safetensors"
    path.write_bytes(broken)
    with pytest.raises(FormatError, match=message) as raised:
        open_safetensors(path)
    assert str(raised.value).startswith("reading m.safetensors: ")


def shard_set(folder: Path, weight_map: Any = None) -> Path:
    saved(folder, {"__metadata__": {"format": "pt"}, "a": entry(0, 1), "extra": entry(1, 2)}, b"ae", "m-1.safetensors")
    saved(folder, {"b": entry(0, 1)}, b"b", "m-2.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map or {"b": "m-2.safetensors", "a": "m-1.safetensors"}}))
    return index


def test_an_index_opens_the_tensors_it_lists(tmp_path: Path) -> None:
    index = shard_set(tmp_path)
    for path in (index, tmp_path, str(tmp_path)):
        with open_safetensors(path) as checkpoint:
            assert {name: each.raw.tobytes() for name, each in checkpoint.tensors.items()} == {"b": b"b", "a": b"a"}
            assert dict(checkpoint.metadata) == {"format": "pt"}


def test_a_missing_shard_and_a_missing_tensor_are_named(tmp_path: Path) -> None:
    index = shard_set(tmp_path, {"a": "m-1.safetensors", "c": "m-2.safetensors"})
    with pytest.raises(FormatError, match=r"tensor 'c' is listed, but not in 'm-2\.safetensors'"):
        open_safetensors(index)
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(FormatError, match=r"shard 'm-2\.safetensors' is missing"):
        open_safetensors(index)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x", "a/../../x", "..\\x", "C:x", "C:\\x", "\\\\host\\x", "", ".", "a\0b"]
)
def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match="outside of the index's folder"):
        open_safetensors(shard_set(tmp_path, {"a": name}))


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map":{"a":"x","a":"y"}}']
)
def test_a_broken_index_is_refused(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(FormatError, match=r"reading model\.safetensors\.index\.json: "):
        open_safetensors(tmp_path)


def test_a_folder_with_one_file_opens_it_and_with_several_asks_which(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no \\*\\.safetensors"):
        open_safetensors(tmp_path)
    one = saved(tmp_path, {"a": entry(0, 1)}, b"a", "one.safetensors")
    with open_safetensors(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["a"]
    two = saved(tmp_path, {"b": entry(0, 1)}, b"b", "two.safetensors")
    with pytest.raises(FormatError, match=r"which of one\.safetensors, two\.safetensors\?"):
        open_safetensors(tmp_path)
    with open_safetensors([one, two]) as checkpoint:
        assert list(checkpoint.tensors) == ["a", "b"]
    with pytest.raises(FormatError, match="'a' is in another file too"):
        open_safetensors([one, one])


def test_arrays_outlive_closing_and_new_ones_are_refused(tmp_path: Path) -> None:
    with open_safetensors(saved(tmp_path, {"a": entry(0, 2)}, b"\x01\x02")) as checkpoint:
        before = checkpoint.tensors["a"].numpy()
    assert before.tolist() == [1, 2]
    with pytest.raises(ValueError, match="was closed"):
        checkpoint.tensors["a"].numpy()


def test_a_dtype_that_safetensors_lack_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="tensor 'c': safetensors have no dtype complex64"):
        write_safetensors(tmp_path / "m.safetensors", {"c": np.zeros(1, np.complex64)})
    assert list(tmp_path.iterdir()) == []


DTYPES = st.sampled_from(["<f8", "<f4", "<f2", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "?"])


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=20).filter(lambda n: n != "__metadata__"),
        st.tuples(DTYPES, st.lists(st.integers(0, 4), max_size=5)),
    )
)
def test_any_tensors_survive_a_round_trip(tmp_path_factory: Any, specs: Any) -> None:
    path = tmp_path_factory.mktemp("trip") / "m.safetensors"
    random = np.random.default_rng(0)
    arrays = {name: random.integers(0, 2, shape).astype(dtype) for name, (dtype, shape) in specs.items()}
    write_safetensors(path, arrays)
    with open_safetensors(path) as checkpoint:
        assert set(checkpoint.tensors) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(checkpoint.tensors[name].numpy(), array)
