"""PyTorch files made by hand: both containers, views of storages, state dictionaries, sharding, and what is refused."""

import io
import json
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats.torch_files import Call, Code, Global, legacy_file, opcodes, pickled, storage, tensor, zip_file
from puna.errors import FormatError
from puna.formats.mapped import MappedTensor
from puna.formats.torch_pickle import Torch, open_torch

SIX = struct.pack("<6f", 0, 1, 2, 3, 4, 5)
FLOATS = storage("0", 6)


def saved(tmp_path: Path, content: bytes, name: str = "m.bin") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def opened(tmp_path: Path, value: Any, storages: dict[str, bytes] | None = None, **more: Any) -> Torch:
    return open_torch(saved(tmp_path, zip_file(value, {"0": SIX} if storages is None else storages, **more)))


def opened_legacy(tmp_path: Path, value: Any, storages: dict[str, tuple[int, bytes]] | None = None) -> Torch:
    return open_torch(saved(tmp_path, legacy_file(value, {"0": (6, SIX)} if storages is None else storages)))


VIEWS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, Any]] = {
    "whole": ((2, 3), (3, 1), 0, [[0, 1, 2], [3, 4, 5]]),
    "transposed": ((3, 2), (1, 3), 0, [[0, 3], [1, 4], [2, 5]]),
    "column": ((2,), (3,), 1, [1, 4]),
    "tail": ((2, 2), (2, 1), 2, [[2, 3], [4, 5]]),
    "every second": ((3,), (2,), 0, [0, 2, 4]),
    "expanded": ((2, 3), (0, 1), 3, [[3, 4, 5], [3, 4, 5]]),
    "overlapping": ((3, 2), (1, 1), 0, [[0, 1], [1, 2], [2, 3]]),
    "scalar": ((), (), 5, 5),
    "one": ((1, 1, 1), (7, 9, 11), 4, [[[4]]]),
    "odd stride of one row": ((1, 6), (100, 1), 0, [[0, 1, 2, 3, 4, 5]]),
    "empty": ((0, 3), (3, 1), 0, np.zeros((0, 3))),
    "empty at the end": ((2, 0), (1, 1), 6, np.zeros((2, 0))),
}
ROW_MAJOR = {"whole", "tail", "scalar", "one", "odd stride of one row", "empty", "empty at the end"}


@pytest.mark.parametrize("opener", [opened, opened_legacy])
def test_every_kind_of_view_has_its_values_and_row_major_ones_are_not_copied(opener: Any, tmp_path: Path) -> None:
    state = {name: tensor(FLOATS, shape, strides, first) for name, (shape, strides, first, _) in VIEWS.items()}
    with opener(tmp_path, state) as checkpoint:
        assert list(checkpoint.tensors) == list(VIEWS)
        for name, (shape, _, _, values) in VIEWS.items():
            found = checkpoint.tensors[name]
            assert found.shape == shape
            assert str(found.dtype) == "F32"
            assert found.numpy().dtype == np.float32
            np.testing.assert_array_equal(found.numpy(), np.array(values, np.float32).reshape(shape))
            assert found.raw.tobytes() == np.array(values, "<f4").tobytes()
            assert found.raw.size == found.nbytes
            assert isinstance(found, MappedTensor) == (name in ROW_MAJOR)
            if name in ROW_MAJOR:
                assert not found.raw.flags.owndata


KINDS: dict[str, tuple[str, bytes, str, Any]] = {
    "torch.DoubleStorage": ("F64", struct.pack("<2d", 0.5, -2), "float32", [0.5, -2]),
    "torch.FloatStorage": ("F32", struct.pack("<2f", 0.5, -2), "float32", [0.5, -2]),
    "torch.HalfStorage": ("F16", struct.pack("<2e", 0.5, -2), "float32", [0.5, -2]),
    "torch.BFloat16Storage": ("BF16", b"\0\x3f\0\xc0", "float32", [0.5, -2]),
    "torch.LongStorage": ("I64", struct.pack("<2q", 1, -(2**60)), "int64", [1, -(2**60)]),
    "torch.IntStorage": ("I32", struct.pack("<2i", 1, -2), "int32", [1, -2]),
    "torch.ShortStorage": ("I16", struct.pack("<2h", 1, -2), "int16", [1, -2]),
    "torch.CharStorage": ("I8", b"\x01\xfe", "int8", [1, -2]),
    "torch.ByteStorage": ("U8", b"\x01\xfe", "uint8", [1, 254]),
    "torch.BoolStorage": ("BOOL", b"\0\x01", "bool", [False, True]),
    "torch.ComplexFloatStorage": ("C64", struct.pack("<4f", 1, 2, 3, 4), "complex64", [1 + 2j, 3 + 4j]),
    "torch.ComplexDoubleStorage": ("C128", struct.pack("<4d", 1, 2, 3, 4), "complex128", [1 + 2j, 3 + 4j]),
    "torch.cuda.HalfStorage": ("F16", struct.pack("<2e", 0.5, -2), "float32", [0.5, -2]),
}
TYPED: dict[str, tuple[str, bytes, str, Any]] = {
    "torch.float8_e4m3fn": ("F8_E4M3", b"\x38\xc0", "float32", [1, -2]),
    "torch.float8_e5m2": ("F8_E5M2", b"\x3c\xc0", "float32", [1, -2]),
    "torch.uint16": ("U16", b"\x01\0\xff\xff", "uint16", [1, 65535]),
    "torch.uint32": ("U32", b"\x01\0\0\0\xff\xff\xff\xff", "uint32", [1, 2**32 - 1]),
    "torch.uint64": ("U64", b"\x01" + bytes(7) + b"\xff" * 8, "uint64", [1, 2**64 - 1]),
    "torch.bfloat16": ("BF16", b"\0\x3f\0\xc0", "float32", [0.5, -2]),
}


def typed(key: str, dtype: str, nbytes: int, shape: tuple[int, ...], strides: tuple[int, ...], first: int = 0) -> Call:
    of = storage(key, nbytes, "torch.storage.UntypedStorage")
    hooks = Call("collections.OrderedDict")
    return Call("torch._utils._rebuild_tensor_v3", (of, first, shape, strides, False, hooks, Global(dtype)))


@pytest.mark.parametrize("big", [False, True])
def test_every_type_has_its_values_in_either_byte_order(tmp_path: Path, big: bool) -> None:
    state: dict[str, Any] = {}
    storages = {}
    for key, (_, content, _, _) in (KINDS | TYPED).items():
        storages[key] = swapped(key, content) if big else content
        made = tensor(storage(key, 2, key), (2,), (1,)) if key in KINDS else typed(key, key, len(content), (2,), (1,))
        state[key] = made
    with opened(tmp_path, state, storages, **({"byteorder": "big"} if big else {})) as checkpoint:
        for name, (dtype, content, numpy, values) in (KINDS | TYPED).items():
            found = checkpoint.tensors[name]
            assert str(found.dtype) == dtype
            assert found.raw.tobytes() == content
            assert found.numpy().dtype == np.dtype(numpy)
            assert found.numpy().tolist() == values
            assert isinstance(found, MappedTensor) == (not big or len(content) == 2)


def swapped(kind: str, content: bytes) -> bytes:
    size = len(content) // (4 if "Complex" in kind else 2)
    return b"".join(content[at : at + size][::-1] for at in range(0, len(content), size))


def test_legacy_storages_are_found_by_their_order_and_size(tmp_path: Path) -> None:
    state = {name: tensor(storage(name, 2, name), (2,), (1,)) for name in KINDS}
    state |= {name: typed(name, name, len(content), (2,), (1,)) for name, (_, content, _, _) in TYPED.items()}
    storages = {name: (2, KINDS[name][1]) for name in reversed(KINDS)}
    storages |= {name: (len(content), content) for name, (_, content, _, _) in TYPED.items()}
    with opened_legacy(tmp_path, state, storages) as checkpoint:
        found = {name: each.numpy().tolist() for name, each in checkpoint.tensors.items()}
        assert found == {name: values for name, (_, _, _, values) in (KINDS | TYPED).items()}


def test_a_legacy_view_of_a_storage_counts_from_its_begin(tmp_path: Path) -> None:
    view = storage("0", 6, "torch.FloatStorage", ("view", 2, 3))
    with opened_legacy(tmp_path, {"a": tensor(view, (2,), (1,), 1), "b": tensor(FLOATS, (1,), (1,))}) as checkpoint:
        assert {name: each.numpy().tolist() for name, each in checkpoint.tensors.items()} == {"a": [3, 4], "b": [0]}
    for bad in [("view", 4, 3), ("view", -1, 3), ("view", 1), "view"]:
        with pytest.raises(FormatError, match="a view that is not inside its storage"):
            opened_legacy(tmp_path, {"a": tensor(storage("0", 6, "torch.FloatStorage", bad), (1,), (1,))})
    with pytest.raises(FormatError, match="reach to byte 16 of a storage of 12"):
        opened_legacy(tmp_path, {"a": tensor(view, (2,), (2,), 1)})


def test_parameters_subclasses_and_old_rebuilders_are_the_tensors_in_them(tmp_path: Path) -> None:
    old = Call("torch._utils._rebuild_tensor", (FLOATS, 2, (2,), (1,)))
    hooks = Call("collections.OrderedDict")
    state = {
        "old": old,
        "parameter": Call("torch._utils._rebuild_parameter", (old, True, hooks)),
        "with state": Call("torch._utils._rebuild_parameter_with_state", (old, True, hooks, {"a": 1})),
        "subclass": Call(
            "torch._tensor._rebuild_from_type_v2",
            (Global("torch._utils._rebuild_tensor"), Global("torch.Tensor"), (FLOATS, 2, (2,), (1,)), {}),
        ),
        "size": tensor(FLOATS, Call("torch.Size", ((2,),)), (1,), 2),  # type: ignore[arg-type]
    }
    with opened(tmp_path, state) as checkpoint:
        assert {name: each.numpy().tolist() for name, each in checkpoint.tensors.items()} == {
            name: [2, 3] for name in state
        }


def test_an_ordered_dict_of_python_3_and_of_python_2_is_a_state_dict(tmp_path: Path) -> None:
    one = tensor(FLOATS, (2,), (1,))
    members = opcodes("a") + opcodes(one) + b"s}" + opcodes("_metadata") + opcodes({"": {"version": 1}}) + b"sb"
    python_3 = Code(opcodes(Call("collections.OrderedDict")) + members)
    python_2 = Call("collections.OrderedDict", ([["a", one]],))
    for state in (python_3, python_2):
        with opened(tmp_path, state) as checkpoint:
            assert checkpoint.tensors["a"].numpy().tolist() == [0, 1]
            assert dict(checkpoint.metadata) == {}


A, B = tensor(FLOATS, (1,), (1,), 1), tensor(FLOATS, (1,), (1,), 2)
STATES: dict[str, tuple[Any, dict[str, float], dict[str, Any]]] = {
    "plain": ({"a.b": A, "c": B}, {"a.b": 1, "c": 2}, {}),
    "nested": ({"a": {"b": A}, "c": [B, 7]}, {"a.b": 1, "c.0": 2}, {"c.1": 7}),
    "state_dict": ({"epoch": 3, "state_dict": {"a": A}, "optimizer": {"m": B}}, {"a": 1}, {"epoch": 3}),
    "twice wrapped": ({"model": {"state_dict": {"a": A}, "b": B}}, {"a": 1}, {}),
    "first wrapper": ({"params": {"a": A}, "params_ema": {"a": B}}, {"a": 2}, {}),
    "wrapper without tensors": ({"model": "llama", "state_dict": {"a": A}}, {"a": 1}, {"model": "llama"}),
    "wrapper that is a tensor": ({"model": A, "b": B}, {"model": 1, "b": 2}, {}),
    "beside a tensor": ({"model": {"a": A}, "rng": B}, {"a": 1}, {}),
    "no wrapper": ({"enc": {"a": A}, "dec": {"a": B}}, {"enc.a": 1, "dec.a": 2}, {}),
    "list": ([A, B], {"0": 1, "1": 2}, {}),
    "lone": (A, {"tensor": 1}, {}),
    "number keys": ({"a": A, 1: {None: B}}, {"a": 1, "1.None": 2}, {}),
    "no tensors": ({"lr": 0.5, "betas": (0.9, 0.99)}, {}, {"lr": 0.5, "betas": (0.9, 0.99)}),
    "plain values": (
        {"a": A, "m": {"t": "x", "b": b"y", "n": None, "yes": True, "l": [], "dtype": Global("torch.float16")}},
        {"a": 1},
        {"m.t": "x", "m.b": b"y", "m.n": None, "m.yes": True, "m.l": (), "m.dtype": "torch.float16"},
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_the_state_dictionary_is_found_by_its_rule_and_other_values_are_metadata(tmp_path: Path, case: str) -> None:
    value, tensors, metadata = STATES[case]
    with opened(tmp_path, value) as checkpoint:
        assert {name: each.numpy().item() for name, each in checkpoint.tensors.items()} == tensors
        assert dict(checkpoint.metadata) == metadata


@pytest.mark.parametrize("top", ["archive/", "", "model-1/"])
def test_the_top_folder_of_an_archive_has_any_name(tmp_path: Path, top: str) -> None:
    with opened(tmp_path, {"a": A}, top=top, version="3", byteorder="little") as checkpoint:
        assert checkpoint.tensors["a"].numpy().tolist() == [1]
        assert checkpoint.paths == (tmp_path / "m.bin",)


def test_a_zip64_archive_is_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (("a/data.pkl", pickled({"a": A})), ("a/data/0", SIX)):
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(content)
    with open_torch(saved(tmp_path, out.getvalue())) as checkpoint:
        assert checkpoint.tensors["a"].numpy().tolist() == [1]


def test_arrays_outlive_closing_and_new_ones_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path, {"a": A, "t": tensor(FLOATS, (3, 2), (1, 3))}) as checkpoint:
        before = checkpoint.tensors["a"].numpy()
    assert before.tolist() == [1]
    for name in ("a", "t"):
        with pytest.raises(ValueError, match="was closed"):
            checkpoint.tensors[name].numpy()


def ids(*parts: Any) -> Call:
    made = storage("0", 6)
    made.id = parts
    return tensor(made, (1,), (1,))


HOOKS = Call("collections.OrderedDict")
BAD_VALUES: dict[str, tuple[Any, str]] = {
    "past the end": (
        {"a": tensor(FLOATS, (7,), (1,))},
        r"tensor 'a': shape \(7,\), strides \(1,\) .* reach to byte 28 of a storage of 24",
    ),
    "offset": ({"a": tensor(FLOATS, (1,), (1,), 6)}, "reach to byte 28"),
    "huge offset": ({"a": tensor(FLOATS, (1,), (1,), 2**61)}, "reach to byte"),
    "empty past the end": ({"a": tensor(FLOATS, (0,), (1,), 7)}, "reach to byte 28"),
    "strides": ({"a": tensor(FLOATS, (2, 3), (4, 1))}, "reach to byte 28"),
    "huge stride": ({"a": tensor(FLOATS, (2,), (2**61,))}, "reach to byte"),
    "negative stride": ({"a": tensor(FLOATS, (2,), (-1,), 3)}, "offset, sizes and strides"),
    "negative size": ({"a": tensor(FLOATS, (-1,), (1,))}, "offset, sizes and strides"),
    "negative offset": ({"a": tensor(FLOATS, (1,), (1,), -1)}, "offset, sizes and strides"),
    "bool size": ({"a": tensor(FLOATS, (True,), (1,))}, "offset, sizes and strides"),
    "float size": ({"a": tensor(FLOATS, (1.0,), (1,))}, "offset, sizes and strides"),
    "huge size": ({"a": tensor(FLOATS, (2**62,), (0,))}, "offset, sizes and strides"),
    "few strides": ({"a": tensor(FLOATS, (1, 1), (1,))}, "offset, sizes and strides"),
    "many dimensions": ({"a": tensor(FLOATS, (1,) * 33, (1,) * 33)}, "offset, sizes and strides"),
    "elements": ({"a": tensor(FLOATS, (2**31, 2**31, 4), (0, 0, 0))}, "tensor 'a': shape .* has more elements"),
    "repeated": ({"a": tensor(FLOATS, (2**30,), (0,))}, "tensor 'a': 4294967296 bytes that repeat 24"),
    "conjugate": (
        {"a": Call("torch._utils._rebuild_tensor_v2", (FLOATS, 0, (1,), (1,), False, HOOKS, {"conj": True}))},
        "conjugate or negative bit",
    ),
    "untyped": ({"a": tensor(storage("0", 24, "torch.UntypedStorage"), (1,), (1,))}, "without element type"),
    "no type": ({"a": typed("0", "torch.Tensor", 24, (1,), (1,))}, "without element type"),
    "unknown type": ({"a": typed("0", "torch.float8_e5m2fnuz", 24, (1,), (1,))}, "Puna has no torch.float8_e5m2fnuz"),
    "unlisted type": ({"a": typed("0", "torch.qint8", 24, (1,), (1,))}, r"it names torch\.qint8"),
    "quantized": ({"a": Call("torch._utils._rebuild_qtensor", ())}, r"it names torch\._utils\._rebuild_qtensor"),
    "nested file": ({"a": Call("torch.storage._load_from_bytes", (b"",))}, r"torch\.storage\._load_from_bytes"),
    "code": ({"a": Call("posix.system", ("true",))}, r"data.pkl: at byte .* it names posix\.system"),
    "class": ({"a": Call("mymodel.Net")}, r"it names mymodel\.Net, which is not on the list"),
    "code by subclass": (
        {"a": Call("torch._tensor._rebuild_from_type_v2", (Global("torch.device"), Global("torch.Tensor"), ("x",)))},
        r"a tensor rebuilt by torch\.device",
    ),
    "not a storage": ({"a": tensor("0", (1,), (1,))}, r"takes \(Storage, int, tuple, tuple\), not \(str,"),  # type: ignore[arg-type]
    "parameter of text": ({"a": Call("torch._utils._rebuild_parameter", ("x",))}, r"takes \(View\), not \(str\)"),
    "bare storage": ({"a": FLOATS}, "a storage that is no tensor"),
    "id": ({"a": ids("storage")}, "a persistent id that is no storage"),
    "id kind": ({"a": ids("module", 1, 2, 3, 4)}, "a persistent id that is no storage"),
    "id type": ({"a": ids("storage", "float", "0", "cpu", 6)}, "a storage without type"),
    "id of a dtype": ({"a": ids("storage", Global("torch.float32"), "0", "cpu", 6)}, "a storage without type"),
    "id key": ({"a": ids("storage", Global("torch.FloatStorage"), 0, "cpu", 6)}, "a storage without type"),
    "id count": ({"a": ids("storage", Global("torch.FloatStorage"), "0", "cpu", -1)}, "a storage without type"),
    "two sizes": ({"a": A, "b": tensor(storage("0", 5), (1,), (1,))}, "storage '0' has two sizes or types"),
    "two types": ({"a": A, "b": tensor(storage("0", 3, "torch.LongStorage"), (1,), (1,))}, "has two sizes or types"),
    "less in the file": ({"a": tensor(storage("0", 7), (1,), (1,))}, "has 24 bytes, its tensors say 28"),
    "no storage": ({"a": tensor(storage("1", 6), (1,), (1,))}, "has no 'archive/data/1'"),
    "name twice": ({"a": {"b": A}, "a.b": B}, "'a.b' is there twice"),
    "metadata twice": ({"a": {"b": 1}, "a.b": 2}, "'a.b' is there twice"),
    "long name": ({"a" * 1001: A}, "names of more than"),
    "deep": (Code(b"]" * 40 + b"a" * 39), "names of more than 32 keys"),
    "in itself": (Code(b"]q\0h\0a"), "names of more than 32 keys"),
    "doubling": (
        Code(b"]q\0(" + opcodes(A) + b"e" + b"0](h\0h\0h\0h\0h\0h\0h\0h\0eq\0" * 12),
        "more values in each other than its size explains",
    ),
    "ordered dict of text": (Call("collections.OrderedDict", ("ab",)), "something else than a list of pairs"),
    "ordered dict of triples": (Call("collections.OrderedDict", ([[1, 2, 3]],)), "something else than a list of pairs"),
    "ordered dict of two": (Call("collections.OrderedDict", ([], [])), "something else than a list of pairs"),
    "encoding": (Call("_codecs.encode", ("a", "rot13")), "bytes encoded as 'rot13'"),
    "not latin": (Call("_codecs.encode", ("€", "latin1")), "with characters beyond it"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_value_that_is_no_checkpoint_is_refused_before_anything_is_allocated(tmp_path: Path, case: str) -> None:
    value, message = BAD_VALUES[case]
    path = saved(tmp_path, zip_file(value, {"0": SIX}))
    tracemalloc.start()
    with pytest.raises(FormatError, match=message) as raised:
        open_torch(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(raised.value).startswith("reading m.bin: ")
    assert peak < 4 << 20


def test_bytes_as_protocol_2_writes_them_are_read(tmp_path: Path) -> None:
    with opened(tmp_path, {"a": A, "b": Call("_codecs.encode", ("é", "latin1"))}) as checkpoint:
        assert dict(checkpoint.metadata) == {"b": b"\xe9"}


GOOD_ZIP = zip_file({"a": A}, {"0": SIX})
GOOD_LEGACY = legacy_file({"a": A}, {"0": (6, SIX)})


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return out.getvalue()


def zipped(*entries: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


def legacy(*values: Any) -> bytes:
    return b"".join(map(pickled, values))


MAGIC = 0x1950A86A20F9469CFC6C
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"hello", "it begins with b'hello'"),
    "safetensors": (struct.pack("<Q", 2) + b"{}", "it begins with"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
    "tar": (tarred(), r"it is a tar archive of torch before 0\.1\.10"),
    "cut zip": (GOOD_ZIP[:-30], "the zip archive is broken or cut"),
    "compressed": (zip_file({"a": A}, {"0": SIX}, compression=zipfile.ZIP_DEFLATED), "is compressed or encrypted"),
    "no pickle": (zipped(("a/x", b"")), r"0 data\.pkl in its top folders"),
    "deep pickle": (zipped(("a/b/data.pkl", b"N.")), r"0 data\.pkl in its top folders"),
    "two pickles": (zipped(("a/data.pkl", b"N."), ("b/data.pkl", b"N.")), r"2 data\.pkl in its top folders"),
    "torchscript": (zipped(("a/data.pkl", b"N."), ("a/constants.pkl", b"N.")), "it is a TorchScript program"),
    "byte order": (zip_file({}, {}, byteorder="middle"), "byteorder is 'middle'"),
    "plain pickle": (legacy({"a": 1}), "none of torch.save"),
    "version": (legacy(MAGIC, 1002), "its protocol is not"),
    "cut legacy": (GOOD_LEGACY[:-1], r"storage '0' of 24 bytes is cut"),
    "cut keys": (GOOD_LEGACY[: -len(SIX) - 20], "at byte"),
    "keys": (legacy(MAGIC, 1001, {}, {}, 5), "the keys of its storages are no list"),
    "number keys": (legacy(MAGIC, 1001, {}, {}, [5]), "the keys of its storages are no list"),
    "unnamed key": (legacy_file({}, {"x": (6, SIX)}), "a storage 'x' that no tensor names"),
    "key twice": (legacy(MAGIC, 1001, {}, {"a": A}, ["0", "0"]) + struct.pack("<q", 6) + SIX + SIX * 2, "there twice"),
    "missing key": (legacy(MAGIC, 1001, {}, {"a": A}, []), "storage '0' is not in the file"),
    "count": (legacy_file({"a": A}, {"0": (5, SIX)}), "has 20 bytes, its tensors say 24"),
    "negative count": (legacy_file({"a": A}, {"0": (-6, SIX)}), "its tensors say 24"),
    "legacy code": (legacy(MAGIC, 1001, Call("posix.system", ("true",))), r"it names posix\.system"),
    "legacy id outside": (legacy(MAGIC, 1001, FLOATS), "a persistent id where none has a meaning"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_broken_file_is_refused_with_what_is_wrong(tmp_path: Path, case: str) -> None:
    content, message = BAD_FILES[case]
    with pytest.raises(FormatError, match=message) as raised:
        open_torch(saved(tmp_path, content))
    assert str(raised.value).startswith("reading m.bin: ")


def test_an_entry_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    content = zipped(("a/data.pkl", b"N."), ("a/data.pk1", b"N.")).replace(b"data.pk1", b"data.pkl")
    with pytest.raises(FormatError, match="two entries of one name"):
        open_torch(saved(tmp_path, content))


def test_an_entry_whose_header_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    at = GOOD_ZIP.index(b"PK\x01\x02") + 42
    for offset in (1, 2**31, len(GOOD_ZIP) - 3):
        content = GOOD_ZIP[:at] + struct.pack("<I", offset) + GOOD_ZIP[at + 4 :]
        with pytest.raises(FormatError, match="fetch"):
            open_torch(saved(tmp_path, content))


def shard_set(folder: Path, weight_map: Any = None) -> Path:
    saved(folder, zip_file({"a": A, "extra": B, "x": 1}, {"0": SIX}), "pytorch_model-1-of-2.bin")
    saved(folder, legacy_file({"b": B, "x": 2}, {"0": (6, SIX)}), "pytorch_model-2-of-2.bin")
    index = folder / "pytorch_model.bin.index.json"
    default = {"b": "pytorch_model-2-of-2.bin", "a": "pytorch_model-1-of-2.bin"}
    index.write_text(json.dumps({"weight_map": weight_map or default}))
    return index


def test_an_index_opens_the_tensors_it_lists(tmp_path: Path) -> None:
    index = shard_set(tmp_path)
    for path in (index, tmp_path, str(tmp_path)):
        with open_torch(path) as checkpoint:
            assert {name: each.numpy().item() for name, each in checkpoint.tensors.items()} == {"b": 2, "a": 1}
            assert dict(checkpoint.metadata) == {"x": 1}
            assert repr(checkpoint) == "Torch(2 files, 2 tensors)"


def test_shards_without_an_index_are_opened_together(tmp_path: Path) -> None:
    shard_set(tmp_path).unlink()
    with open_torch(tmp_path) as checkpoint:
        assert sorted(checkpoint.tensors) == ["a", "b", "extra"]


def test_a_missing_shard_a_missing_tensor_and_a_shard_outside_are_named(tmp_path: Path) -> None:
    index = shard_set(tmp_path, {"c": "pytorch_model-1-of-2.bin"})
    with pytest.raises(FormatError, match=r"tensor 'c' is listed, but not in 'pytorch_model-1-of-2\.bin'"):
        open_torch(index)
    with pytest.raises(FormatError, match=r"shard 'x\.bin' is missing"):
        open_torch(shard_set(tmp_path, {"c": "x.bin"}))
    with pytest.raises(FormatError, match="outside of the index's folder"):
        open_torch(shard_set(tmp_path, {"c": "../x.bin"}))


def test_a_folder_is_searched_for_weights_alone(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no \*\.bin, \*\.pt or \*\.pth"):
        open_torch(tmp_path)
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth"):
        saved(tmp_path, b"other", name)
    one = saved(tmp_path, GOOD_ZIP, "one.pth")
    with open_torch(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["a"]
    two = saved(tmp_path, zip_file({"b": B}, {"0": SIX}), "two.pt")
    with pytest.raises(FormatError, match=r"which of one\.pth, two\.pt\?"):
        open_torch(tmp_path)
    with open_torch([one, two]) as checkpoint:
        assert list(checkpoint.tensors) == ["a", "b"]
    with pytest.raises(FormatError, match="in the list twice"):
        open_torch([one, one])
    with pytest.raises(FormatError, match="'a' is in another file too"):
        open_torch([one, saved(tmp_path, GOOD_ZIP, "three.pt")])
    saved(tmp_path, zip_file({"c": B}, {"0": SIX}), "pytorch_model.bin")
    with open_torch(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["c"]
