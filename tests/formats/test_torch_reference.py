"""PyTorch checkpoints against torch itself: what it saves is read as the values it holds, without it."""

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puna.errors import FormatError
from puna.formats.mapped import MappedTensor
from puna.formats.torch_pickle import Torch, open_torch

pytestmark = pytest.mark.reference

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",
}


def roundtrip(tmp_path: Path, value: Any, new: bool, **options: Any) -> Torch:
    import torch

    torch.save(value, tmp_path / "m.pt", _use_new_zipfile_serialization=new, **options)
    return open_torch(tmp_path / "m.pt")


def assert_same(found: Any, tensor: Any) -> None:
    """The same bytes, and the same values as float32."""
    import torch

    assert found.shape == tuple(tensor.shape)
    flat = tensor.detach().contiguous().reshape(-1)
    assert found.raw.tobytes() == flat.view(torch.uint8).numpy().tobytes()
    if tensor.is_floating_point():
        np.testing.assert_array_equal(found.numpy(), tensor.detach().float().numpy())
    else:
        np.testing.assert_array_equal(found.numpy(), tensor.detach().numpy())


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("name", DTYPES)
def test_every_type_is_read_as_torch_holds_it(tmp_path: Path, name: str, new: bool) -> None:
    import torch

    values = torch.arange(24).remainder(2) if name == "bool" else torch.arange(24)
    whole = values.to(getattr(torch, name)).reshape(4, 6)
    state = {"whole": whole, "transposed": whole.T, "columns": whole[:, 1::2], "row": whole[2], "last": whole[3, 5]}
    state |= {"empty": whole[:0], "expanded": whole[:1].expand(3, 6), "tied": whole}
    with roundtrip(tmp_path, state, new) as checkpoint:
        assert list(checkpoint.tensors) == list(state)
        for key, tensor in state.items():
            assert str(checkpoint.tensors[key].dtype) == DTYPES[name]
            assert_same(checkpoint.tensors[key], tensor)
        assert isinstance(checkpoint.tensors["row"], MappedTensor)
        assert not isinstance(checkpoint.tensors["transposed"], MappedTensor)
        assert checkpoint.tensors["tied"].offset == checkpoint.tensors["whole"].offset  # type: ignore[attr-defined]


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_module_s_state_beside_its_optimizer_s_is_found(tmp_path: Path, new: bool, protocol: int) -> None:
    import torch

    model = torch.nn.Sequential(
        torch.nn.Embedding(7, 4), torch.nn.LSTM(4, 3), torch.nn.Linear(3, 7), torch.nn.BatchNorm1d(7)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.25)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    value = {"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "name": "tiny"}
    with roundtrip(tmp_path, value, new, pickle_protocol=protocol) as checkpoint:
        assert list(checkpoint.tensors) == list(model.state_dict())
        for key, tensor in model.state_dict().items():
            assert_same(checkpoint.tensors[key], tensor)
        assert checkpoint.metadata["epoch"] == 3
        assert checkpoint.metadata["name"] == "tiny"
        assert checkpoint.metadata["optimizer.param_groups.0.lr"] == 0.25
        assert checkpoint.metadata["optimizer.param_groups.0.betas"] == (0.9, 0.999)


@pytest.mark.parametrize("new", [True, False])
def test_parameters_and_tensors_with_attributes_are_tensors(tmp_path: Path, new: bool) -> None:
    import torch

    marked = torch.arange(3.0)
    marked.mark = "x"  # type: ignore[attr-defined]
    state = OrderedDict(a=torch.nn.Parameter(torch.ones(2)), b=marked, size=torch.Size([1, 2]), on=torch.device("cpu"))
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.mark = "y"  # type: ignore[attr-defined]
    state["c"] = parameter
    with roundtrip(tmp_path, state, new) as checkpoint:
        for key in "abc":
            assert_same(checkpoint.tensors[key], state[key])
        assert dict(checkpoint.metadata) == {"size": (1, 2), "on": "cpu"}


@pytest.mark.filterwarnings("ignore:ComplexHalf", "ignore:torch.quantize_per_tensor", "ignore:.*deprecated")
def test_what_holds_no_plain_tensor_is_refused(tmp_path: Path) -> None:
    import torch

    complex_values = torch.ones(2, dtype=torch.complex64)
    for value, message in (
        ({"a": complex_values.conj()}, "conjugate or negative bit"),
        ({"a": complex_values.conj().imag}, "conjugate or negative bit"),
        ({"a": torch.ones(2, dtype=torch.complex32)}, "torch.complex32|ComplexHalf"),
        ({"a": torch.ones(2).to(torch.float8_e8m0fnu)}, "Puna has no torch.float8_e8m0fnu"),
        ({"a": torch.eye(2).to_sparse()}, "it names torch._utils._rebuild_sparse_tensor"),
        (
            {"a": torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8)},
            "it names torch._utils._rebuild_qtensor",
        ),
        (torch.nn.Linear(2, 2), "it names torch.nn.modules.linear.Linear"),
    ):
        with pytest.raises(FormatError, match=message):
            roundtrip(tmp_path, value, True)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_module_is_refused(tmp_path: Path) -> None:
    import torch

    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "m.pt"))
    with pytest.raises(FormatError, match="TorchScript"):
        open_torch(tmp_path / "m.pt")


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    import torch
    from torch.serialization import set_crc32_options

    before = torch.serialization.get_crc32_options()
    set_crc32_options(False)
    try:
        with roundtrip(tmp_path, {"a": torch.arange(5)}, True) as checkpoint:
            assert checkpoint.tensors["a"].numpy().tolist() == [0, 1, 2, 3, 4]
    finally:
        set_crc32_options(before)


def test_a_saved_buffer_of_big_endian_values_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    import zipfile

    import torch

    buffer = io.BytesIO()
    torch.save({"a": torch.arange(6.0).reshape(2, 3).T}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "m.pt", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            content = b"big" if name.endswith("byteorder") else content
            new.writestr(name, np.frombuffer(content, "<f4").astype(">f4").tobytes() if "/data/" in name else content)
    with open_torch(tmp_path / "m.pt") as checkpoint:
        assert_same(checkpoint.tensors["a"], torch.load(tmp_path / "m.pt")["a"])
