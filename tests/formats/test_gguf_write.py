"""Writing GGUF: read back by the `gguf` package and by Puna, exact types, shards, and never half a file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import FormatError
from puna.formats import Typed, gguf_chunks, open_gguf, write_gguf


def written(tmp_path: Path, metadata: Any, tensors: Any = (), **options: Any) -> Path:
    path = tmp_path / "ours.gguf"
    write_gguf(path, metadata, tensors, **options)
    return path


def test_the_smallest_file_is_these_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": 7}, [("w", (1, 2), "F32", b"12345678")])
    head = (
        b"GGUF\x03\0\0\0" + b"\x01\0\0\0\0\0\0\0" + b"\x01\0\0\0\0\0\0\0"
        b"\x01\0\0\0\0\0\0\0a\x04\0\0\0\x07\0\0\0"
        b"\x01\0\0\0\0\0\0\0w\x02\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    )
    assert path.read_bytes() == head.ljust(96, b"\0") + b"12345678".ljust(32, b"\0")


def test_the_gguf_package_reads_what_is_written(tmp_path: Path) -> None:
    weights = np.linspace(-2, 2, 128, dtype=np.float32).reshape(2, 64)
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.negative": -3,
        "llama.eps": 1e-5,
        "big": 2**40,
        "yes": True,
        "tokens": ["a", "é", ""],
        "types": [1, -1],
        "scores": np.array([0.5, 1.5], np.float32),
    }
    tensors = [
        ("w", (2, 64), "F32", weights),
        ("h", (128,), "F16", iter([weights.astype("<f2").tobytes()[:100], weights.astype("<f2").tobytes()[100:]])),
        ("q", (2, 64), "Q8_0", lambda: gguf.quantize(weights, gguf.GGMLQuantizationType.Q8_0)),
    ]
    theirs = gguf.GGUFReader(written(tmp_path, metadata, tensors, alignment=64))
    kinds = gguf.GGUFValueType
    assert {
        key: (field.types, field.contents()) for key, field in theirs.fields.items() if not key.startswith("GGUF.")
    } == {
        "general.architecture": ([kinds.STRING], "llama"),
        "llama.block_count": ([kinds.UINT32], 2),
        "llama.negative": ([kinds.INT32], -3),
        "llama.eps": ([kinds.FLOAT32], float(np.float32(1e-5))),
        "big": ([kinds.UINT64], 2**40),
        "yes": ([kinds.BOOL], True),
        "tokens": ([kinds.ARRAY, kinds.STRING], ["a", "é", ""]),
        "types": ([kinds.ARRAY, kinds.INT32], [1, -1]),
        "scores": ([kinds.ARRAY, kinds.FLOAT32], [0.5, 1.5]),
        "general.alignment": ([kinds.UINT32], 64),
    }
    w, h, q = theirs.tensors
    assert (w.name, w.shape.tolist(), w.data_offset % 64) == ("w", [64, 2], 0)
    np.testing.assert_array_equal(w.data, weights)
    np.testing.assert_array_equal(h.data, weights.astype(np.float16).reshape(-1))
    np.testing.assert_array_equal(q.data, gguf.quantize(weights, gguf.GGMLQuantizationType.Q8_0))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0, "UINT32"),
        (2**32 - 1, "UINT32"),
        (2**32, "UINT64"),
        (2**64 - 1, "UINT64"),
        (-1, "INT32"),
        (-(2**31) - 1, "INT64"),
        (1.5, "FLOAT32"),
        (False, "BOOL"),
        ("x", "STRING"),
        (np.uint8(3), "UINT8"),
        (np.int64(3), "INT64"),
        (np.float64(0.1), "FLOAT64"),
        (np.bool_(True), "BOOL"),
        ([1, 2], "ARRAY[INT32]"),
        ([2**31], "ARRAY[UINT32]"),
        ([-1, 2**31], "ARRAY[INT64]"),
        ([2**63], "ARRAY[UINT64]"),
        ([1, 2.5], "ARRAY[FLOAT32]"),
        ([True], "ARRAY[BOOL]"),
        (["a"], "ARRAY[STRING]"),
        ([[1], ["a"]], "ARRAY[ARRAY]"),
        (Typed(1, "INT8"), "INT8"),
        (Typed(1, "FLOAT64"), "FLOAT64"),
        (Typed([1], "ARRAY[UINT16]"), "ARRAY[UINT16]"),
        (Typed([], "ARRAY[STRING]"), "ARRAY[STRING]"),
        (np.array([1, 2], ">i2"), "ARRAY[INT16]"),
        (np.array([], np.float64), "ARRAY[FLOAT64]"),
    ],
)
def test_a_python_value_gets_the_documented_type_and_comes_back(tmp_path: Path, value: Any, kind: str) -> None:
    with open_gguf(written(tmp_path, {"k": value})) as g:
        assert g.metadata.types == {"k": kind}
        plain = value.value if isinstance(value, Typed) else value
        back = (
            [each if isinstance(each, str) else list(each) for each in g.metadata["k"]]
            if kind == "ARRAY[ARRAY]"
            else None
        )
        if back is not None:
            assert back == plain
        elif isinstance(g.metadata["k"], np.ndarray):
            assert g.metadata["k"].tolist() == list(plain)
        else:
            assert g.metadata["k"] == plain


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType has no GGUF type"),
        ({}, "dict has no GGUF type"),
        ([], "empty"),
        ([1, "a"], "items differ"),
        ([True, 1], "items differ"),
        (2**64, "fits no GGUF type"),
        (1e300, "FLOAT32: a value does not fit"),
        (Typed(300, "UINT8"), "UINT8: a value does not fit"),
        (Typed(-1, "UINT32"), "UINT32: a value does not fit"),
        (Typed(1.5, "INT32"), "1.5 is a float"),
        (Typed(True, "INT32"), "True is a bool"),
        (Typed("x", "BOOL"), "'x' is a str"),
        (Typed(1, "STRING"), "int is not text"),
        (Typed(1, "I32"), "type 'I32' is unknown"),
        (Typed(1, "ARRAY[INT8]"), "not a list"),
        (np.zeros((2, 2)), "1-D"),
        (np.float16(1), "float16"),
        (np.zeros(2, np.float16), "float16"),
        ("\ud800", "surrogate"),
        ([[[[[1]]]]], "nested deeper"),
    ],
)
def test_a_value_with_no_place_in_a_file_is_refused_by_key(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(FormatError, match=rf"writing ours\.gguf: key 'k': .*{message}"):
        written(tmp_path, {"k": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (("w", (2,), "F32", b"1234567"), r"'w' \(2,\) F32 needs 8 bytes, 7 came"),
        (("w", (2,), "F32", [b"12345678", b"9"]), "needs 8 bytes, at least 9 came"),
        (("w", (100,), "Q4_K", b""), "Q4_K: row of 100"),
        (("w", (2,), "BOOL", b"12"), "GGUF has no type BOOL"),
        (("w", (2,), "Q9", b"12"), "type 'Q9' is unknown"),
        (("w", (1,) * 5, "I8", b"1"), "up to 4 dimensions"),
        (("w", (-1,), "I8", b""), "dimensions"),
        (("w" * 64, (1,), "I8", b"1"), "64 bytes; 1 to 63"),
        (("", (1,), "I8", b"1"), "0 bytes; 1 to 63"),
        (("w", (2**62, 2**62), "I8", b"1"), "more elements"),
    ],
)
def test_a_tensor_with_no_place_in_a_file_is_refused_by_name(tmp_path: Path, tensor: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        written(tmp_path, {}, [tensor])
    assert list(tmp_path.iterdir()) == []


def test_names_given_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="'w' is given twice"):
        written(tmp_path, {}, [("w", (1,), "I8", b"1"), ("w", (1,), "I8", b"1")])


def test_an_alignment_that_is_no_power_of_two_or_another_in_the_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="alignment 48"):
        written(tmp_path, {}, alignment=48)
    with pytest.raises(FormatError, match=r"'general\.alignment' is not 32"):
        written(tmp_path, {"general.alignment": 64})


def test_an_open_file_is_copied_byte_for_byte(tmp_path: Path) -> None:
    metadata = {"a": Typed(1, "INT8"), "b": Typed([[1], Typed([2], "ARRAY[UINT64]")], "ARRAY[ARRAY]"), "c": b"\xff\0"}
    path = written(tmp_path, metadata, [("w", (3,), "I64", bytes(24)), ("v", (1,), "I8", b"x")], alignment=128)
    with open_gguf(path) as g:
        write_gguf(tmp_path / "copy.gguf", g.metadata, g.tensors.values(), alignment=g.alignment)
        write_gguf(tmp_path / "named.gguf", g.metadata.exact(), [*g.tensors.items()], alignment=g.alignment)
    assert (tmp_path / "copy.gguf").read_bytes() == path.read_bytes() == (tmp_path / "named.gguf").read_bytes()


def test_tensors_are_read_one_after_another_when_it_is_their_turn() -> None:
    asked = []

    def source(name: str) -> Any:
        def data() -> Iterator[bytes]:
            asked.append(name)
            yield b"x"

        return data

    chunks = gguf_chunks({}, [(name, (1,), "I8", source(name)) for name in "ab"])
    next(chunks)
    assert asked == []
    assert next(chunks) == b"x"
    assert asked == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), RuntimeError])
def test_an_error_in_the_middle_leaves_the_folder_as_it_was(tmp_path: Path, error: Any) -> None:
    (tmp_path / "ours.gguf").write_bytes(b"before")

    def data() -> Iterator[bytes]:
        yield b"1"
        assert len(os.listdir(tmp_path)) == 2
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        written(tmp_path, {}, [("w", (2,), "I8", data)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"ours.gguf": b"before"}


KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
NUMBERS = {
    "UINT8": st.integers(0, 255),
    "INT8": st.integers(-128, 127),
    "UINT16": st.integers(0, 2**16 - 1),
    "INT16": st.integers(-(2**15), 2**15 - 1),
    "UINT32": st.integers(0, 2**32 - 1),
    "INT32": st.integers(-(2**31), 2**31 - 1),
    "UINT64": st.integers(0, 2**64 - 1),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "FLOAT32": st.floats(width=32, allow_nan=False),
    "FLOAT64": st.floats(allow_nan=False),
    "BOOL": st.booleans(),
    "STRING": st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape")),
}


@st.composite
def typed(draw: Any) -> Typed:
    kind = draw(st.sampled_from(sorted(NUMBERS)))
    if draw(st.booleans()):
        return Typed(draw(NUMBERS[kind]), kind)
    return Typed(draw(st.lists(NUMBERS[kind], max_size=40)), f"ARRAY[{kind}]")


@settings(max_examples=150, deadline=None)
@given(
    metadata=st.dictionaries(KEYS.filter(lambda key: not key.startswith(("general.", "split."))), typed(), max_size=6),
    tensors=st.dictionaries(KEYS, st.lists(st.integers(0, 5), max_size=4), max_size=5),
    alignment=st.sampled_from([1, 8, 32, 4096]),
)
def test_any_metadata_and_tensors_survive_a_round_trip(
    tmp_path_factory: Any, metadata: Any, tensors: Any, alignment: int
) -> None:
    tensors = {name: shape for name, shape in tensors.items() if len(name.encode()) < 64}
    path = tmp_path_factory.mktemp("trip") / "ours.gguf"
    data = {name: os.urandom(2 * int(np.prod(shape))) for name, shape in tensors.items()}
    write_gguf(
        path, metadata, [(name, tuple(tensors[name]), "I16", data[name]) for name in tensors], alignment=alignment
    )
    with open_gguf(path) as g:
        kept = {key: kind for key, kind in g.metadata.types.items() if key != "general.alignment"}
        assert kept == {key: value.type for key, value in metadata.items()}
        for key, value in metadata.items():
            got = g.metadata[key]
            assert (got.tolist() if isinstance(got, np.ndarray) else got) == value.value
        assert {name: each.shape for name, each in g.tensors.items()} == {
            n: tuple(shape) for n, shape in tensors.items()
        }
        assert {name: each.raw.tobytes() for name, each in g.tensors.items()} == data


def shards(folder: Path, count: int = 3, total: int | None = None) -> list[Path]:
    paths = [folder / f"m-{number + 1:05d}-of-{count:05d}.gguf" for number in range(count)]
    for number, path in enumerate(paths):
        split = {
            "split.no": np.uint16(number),
            "split.count": np.uint16(count),
            "split.tensors.count": Typed(total or count, "INT32"),
        }
        first = {"general.architecture": "llama"} if number == 0 else {}
        write_gguf(path, {**first, **split}, [(f"blk.{number}.w", (1,), "I8", bytes([number]))])
    return paths


def test_the_first_shard_opens_all(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    with open_gguf(paths[0]) as g:
        assert {name: each.numpy().tolist() for name, each in g.tensors.items()} == {
            "blk.0.w": [0],
            "blk.1.w": [1],
            "blk.2.w": [2],
        }
        assert g.paths == tuple(paths)
        write_gguf(tmp_path / "one.gguf", g.metadata, g.tensors.values())
    with open_gguf(tmp_path / "one.gguf") as one:
        assert dict(one.metadata) == {"general.architecture": "llama"}
        assert len(one.tensors) == 3


def test_shards_of_any_name_open_as_a_list(tmp_path: Path) -> None:
    paths = [path.rename(tmp_path / f"sha256-{number}") for number, path in enumerate(shards(tmp_path))]
    with open_gguf(paths) as g:
        assert len(g.tensors) == 3
    with pytest.raises(FormatError, match="pass the list of all shards"):
        open_gguf(paths[0])
    with pytest.raises(FormatError, match="sha256-2: it says shard 3 of 3, where 2 of 3 belongs"):
        open_gguf([paths[0], paths[2], paths[1]])
    with pytest.raises(FormatError, match="2 files were given, it says 3 shards"):
        open_gguf(paths[:2])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    paths[1].unlink()
    with pytest.raises(FormatError, match=r"missing m-00002-of-00003\.gguf;"):
        open_gguf(paths[0])


def test_a_later_shard_opens_the_whole_set_as_the_first_does(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    for path in paths:
        with open_gguf(path) as g:
            assert g.paths == tuple(paths)
            assert list(g.tensors) == ["blk.0.w", "blk.1.w", "blk.2.w"]


def test_shards_that_lack_tensors_or_repeat_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="3 tensors, it says 4"):
        open_gguf(shards(tmp_path, total=4)[0])
    paths = shards(tmp_path)
    split = {"split.no": np.uint16(1), "split.count": np.uint16(3)}
    write_gguf(paths[1], split, [("blk.0.w", (1,), "I8", b"x")])
    with pytest.raises(FormatError, match=r"m-00002-of-00003\.gguf: tensor 'blk\.0\.w' is there twice"):
        open_gguf(paths[0])
