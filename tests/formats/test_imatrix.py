"""Importance matrices: bytes written out here, llama.cpp's own files, and the `gguf` package as a second reader."""

import os
from pathlib import Path
from struct import pack

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import FormatError
from puna.formats import write_gguf
from puna.formats.imatrix import Imatrix, merge_imatrices, open_imatrix, write_imatrix

OLD = (
    b"\x02\0\0\0"
    + (b"\x01\0\0\0a" + b"\x04\0\0\0" + b"\x02\0\0\0" + pack("<2f", 8.0, 2.0))
    + (b"\x02\0\0\0bc" + b"\0\0\0\0" + b"\x01\0\0\0" + pack("<f", 0.5))
    + (b"\x07\0\0\0" + b"\x05\0\0\0w.txt")
)


def opened(tmp_path: Path, data: bytes, name: str = "x.dat") -> Imatrix:
    path = tmp_path / name
    path.write_bytes(data)
    return open_imatrix(path)


def matrix(**weights: tuple[list[list[float]], list[int]]) -> Imatrix:
    sums = {name: np.array(rows, np.float32) for name, (rows, _) in weights.items()}
    counts = {name: np.array(tokens, np.int64) for name, (_, tokens) in weights.items()}
    return Imatrix(sums, counts, chunks=3, chunk_size=4, datasets=("a.txt", "b.txt"))


def test_the_older_form_is_read_as_llama_cpp_reads_it(tmp_path: Path) -> None:
    read = opened(tmp_path, OLD)
    assert {name: list(values) for name, values in read.values.items()} == {"a": [2.0, 0.5], "bc": [0.5]}
    assert (read.chunks, read.chunk_size, read.datasets) == (7, 512, ("w.txt",))
    assert {name: list(tokens) for name, tokens in read.counts.items()} == {"a": [4 * 512], "bc": [512]}


def test_the_older_form_may_end_after_its_entries(tmp_path: Path) -> None:
    read = opened(tmp_path, OLD[:-13])
    assert (list(read.values), read.chunks, read.datasets) == (["a", "bc"], 0, ())


def test_the_older_form_is_written_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "again.dat"
    write_imatrix(path, opened(tmp_path, OLD.replace(b"bc\0\0\0\0", b"bc\x01\0\0\0")))
    assert path.read_bytes() == OLD.replace(b"bc\0\0\0\0", b"bc\x01\0\0\0")


def test_the_gguf_form_is_what_the_gguf_package_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_imatrix(path, matrix(dense=([[1, 2, 3]], [12]), experts=([[1, 2], [3, 4]], [0, 5])))
    theirs = gguf.GGUFReader(path)
    kinds = gguf.GGUFValueType
    assert {key: (f.types, f.contents()) for key, f in theirs.fields.items() if not key.startswith("GGUF.")} == {
        "general.type": ([kinds.STRING], "imatrix"),
        "imatrix.datasets": ([kinds.ARRAY, kinds.STRING], ["a.txt", "b.txt"]),
        "imatrix.chunk_count": ([kinds.UINT32], 3),
        "imatrix.chunk_size": ([kinds.UINT32], 4),
    }
    assert {t.name: (t.tensor_type.name, t.shape.tolist(), t.data.tolist()) for t in theirs.tensors} == {
        "dense.in_sum2": ("F32", [3, 1], [[1, 2, 3]]),
        "dense.counts": ("F32", [1, 1], [[12]]),
        "experts.in_sum2": ("F32", [2, 2], [[1, 2], [3, 4]]),
        "experts.counts": ("F32", [1, 2], [[0], [5]]),
    }


def test_a_file_of_the_gguf_package_is_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "none")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["t"])
    writer.add_uint32("imatrix.chunk_count", 2)
    writer.add_uint32("imatrix.chunk_size", 256)
    writer.add_tensor("w.in_sum2", np.array([[2, 4], [6, 9]], np.float32))
    writer.add_tensor("w.counts", np.array([[2], [3]], np.float32))
    writer.add_tensor("w.in_sum", np.array([[1, 1], [1, 1]], np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    read = open_imatrix(tmp_path / "x.gguf")
    assert read.values["w"].tolist() == [[1, 2], [2, 3]]
    assert (read.chunks, read.chunk_size, read.datasets) == (2, 256, ("t",))


def test_an_expert_without_tokens_counts_each_column_alike(tmp_path: Path) -> None:
    experts = matrix(w=([[0, 0], [8, 4]], [0, 8]), unseen=([[0.0]], [0]))
    write_imatrix(tmp_path / "x.gguf", experts)
    assert open_imatrix(tmp_path / "x.gguf").values["w"].tolist() == [[1, 1], [1, 0.5]]
    write_imatrix(tmp_path / "x.dat", experts)
    old = open_imatrix(tmp_path / "x.dat")
    assert {name: values.tolist() for name, values in old.values.items()} == {"w": [1, 1, 1, 0.5]}


def test_importance_has_the_shape_of_the_weight() -> None:
    flat = matrix(w=([[1, 2, 3, 4]], [1]))
    rows = flat.importance("w", (2, 8, 2))
    assert rows is not None
    assert rows.tolist() == [[1, 2], [3, 4]]
    row = flat.importance("w", (8, 4))
    assert row is not None
    assert row.tolist() == [1, 2, 3, 4]
    assert flat.importance("v", (8, 4)) is None
    with pytest.raises(FormatError, match=r"'w' has 4 columns, a weight of shape \(8, 6\) needs 6"):
        flat.importance("w", (8, 6))


def test_merging_adds_sums_and_tokens() -> None:
    one = matrix(w=([[1, 2]], [4]), v=([[1]], [4]))
    other = matrix(w=([[3, 4]], [12]), u=([[2]], [2]))
    both = merge_imatrices([one, other])
    assert {name: values.tolist() for name, values in both.values.items()} == {
        "w": [0.25, 0.375],
        "v": [0.25],
        "u": [1],
    }
    assert (both.chunks, both.chunk_size, both.datasets) == (6, 4, ("a.txt", "b.txt"))


def test_merging_gives_the_count_of_an_older_file_to_each_expert() -> None:
    old, new = matrix(w=([[1, 2, 3, 4]], [2])), matrix(w=([[1, 1], [1, 1]], [2, 0]))
    for order in ([old, new], [new, old]):
        both = merge_imatrices(order)
        assert both.sums["w"].tolist() == [[2, 3], [4, 5]]
        assert both.counts["w"].tolist() == [4, 2]


def test_merging_matrices_of_two_models_is_refused() -> None:
    with pytest.raises(FormatError, match=r"'w' is \(1, 1\) in one and \(1, 2\) in another"):
        merge_imatrices([matrix(w=([[1, 2]], [4])), matrix(w=([[1]], [4]))])
    with pytest.raises(FormatError, match="there are none"):
        merge_imatrices([])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\0\0\0\0", "at byte 4: 0 entries in 4 bytes"),
        (b"\xff\xff\xff\x7f" * 4, "2147483647 entries in 16 bytes"),
        (OLD[:24], "entry 'a' of 8 bytes reaches past the end of the file at byte 24"),
        (OLD.replace(b"\x01\0\0\0a", b"\xff\xff\xff\xffa"), "the name of entry 0 has the length -1"),
        (OLD.replace(b"\x01\0\0\0a", b"\x01\0\0\0\xff"), "the name of entry 0 is not UTF-8"),
        (OLD.replace(b"a\x04\0\0\0\x02", b"a\x04\0\0\0\0"), "entry 'a' has 0 values"),
        (OLD.replace(b"\x02\0\0\0bc", b"\x01\0\0\0a"), "entry 'a' is there twice"),
    ],
)
def test_what_is_wrong_with_an_older_file_is_told_with_the_byte(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem.replace("(", r"\(")):
        opened(tmp_path, data)


def gguf_form(tmp_path: Path, kind: str = "imatrix", **tensors: object) -> Path:
    path = tmp_path / "bad.gguf"
    arrays = {name.replace("__", "."): np.atleast_1d(np.array(v, np.float32)) for name, v in tensors.items()}
    write_gguf(path, {"general.type": kind}, [(name, a.shape, "F32", a) for name, a in arrays.items()])
    return path


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"kind": "model", "w__in_sum2": [1]}, "general.type is 'model', 1 tensors end in .in_sum2"),
        ({"w__counts": [1]}, "0 tensors end in .in_sum2"),
        ({"w__in_sum2": [1, 2]}, "tensor 'w.counts' is None; F32 is needed"),
        ({"w__in_sum2": [1, 2, 3], "w__counts": [1, 1]}, "'w' has 3 sums for 2 counts"),
        ({"w__in_sum2": [1, 2], "w__counts": [-1]}, "tensor 'w.counts' holds no counts of tokens"),
        ({"w__in_sum2": [1, 2], "w__counts": [np.inf]}, "tensor 'w.counts' holds no counts of tokens"),
    ],
)
def test_what_is_wrong_with_a_gguf_form_is_told(tmp_path: Path, tensors: dict[str, object], problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        open_imatrix(gguf_form(tmp_path, **tensors))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_values_that_weigh_nothing_sensible_are_refused_when_asked_for(tmp_path: Path, value: float) -> None:
    read = open_imatrix(gguf_form(tmp_path, w__in_sum2=[1, value], w__counts=[1]))
    with pytest.raises(FormatError, match="'w' has values that are negative or not finite"):
        read.values["w"]


def test_an_empty_matrix_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="the importance matrix is empty"):
        write_imatrix(tmp_path / "x.gguf", Imatrix({}, {}))
    assert os.listdir(tmp_path) == []


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
SUMS = st.lists(st.floats(0, 2**20, width=32), min_size=4, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    weights=st.dictionaries(NAMES, st.tuples(SUMS, st.integers(1, 2), st.integers(1, 10**6)), min_size=1, max_size=4),
    chunks=st.integers(0, 2**31 - 1),
    chunk_size=st.integers(1, 2**20),
    datasets=st.lists(NAMES, max_size=3),
    ending=st.sampled_from(["gguf", "dat"]),
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    weights: dict[str, tuple[list[float], int, int]],
    chunks: int,
    chunk_size: int,
    datasets: list[str],
    ending: str,
) -> None:
    sums = {name: np.array(values, np.float32).reshape(rows, -1) for name, (values, rows, _) in weights.items()}
    counts = {name: np.full(rows, tokens) for name, (_, rows, tokens) in weights.items()}
    path = tmp_path_factory.mktemp("imatrix") / f"x.{ending}"
    write_imatrix(path, Imatrix(sums, counts, chunks, chunk_size, tuple(datasets)))
    read = open_imatrix(path)
    assert sorted(read.values) == sorted(weights)
    assert read.chunks == chunks
    assert read.datasets == tuple(datasets if ending == "gguf" else datasets[-1:])
    for name, (values, _, tokens) in weights.items():
        expected = np.array(values) / tokens
        np.testing.assert_allclose(read.values[name].reshape(-1), expected, rtol=1e-6, atol=1e-38)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_and_nothing_else_happens(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("imatrix")
    write_imatrix(folder / "x.gguf", matrix(w=([[1, 2], [3, 4]], [5, 6])))
    whole = data.draw(st.sampled_from([OLD, (folder / "x.gguf").read_bytes()]))
    damaged = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        for values in opened(folder, bytes(damaged)).values.values():
            assert np.isfinite(values).all()
    except FormatError:
        pass


def test_the_older_form_has_chunks_of_the_size_that_the_reader_knows(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(OLD)
    read = open_imatrix(tmp_path / "x.dat", 128)
    assert {name: list(values) for name, values in read.values.items()} == {"a": [2.0, 0.5], "bc": [0.5]}
    assert (read.chunks, read.chunk_size) == (7, 128)
    assert {name: list(tokens) for name, tokens in read.counts.items()} == {"a": [4 * 128], "bc": [128]}


def test_a_gguf_says_its_chunk_size_whatever_the_reader_thinks(tmp_path: Path) -> None:
    write_imatrix(tmp_path / "x.gguf", matrix(w=([[1, 2]], [12])))
    assert open_imatrix(tmp_path / "x.gguf", 128).chunk_size == 4
