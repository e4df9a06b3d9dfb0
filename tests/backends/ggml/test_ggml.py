"""The ggml backend beside the conformance suite: the library, devices, memory, graphs, errors."""

import numpy as np
import pytest

from conformance.running import stored
from puna import dtypes
from puna.backends import devices, open_backend
from puna.backends.base import Bounds
from puna.backends.ggml import api
from puna.backends.ggml import hardware as found
from puna.backends.ggml.building import collapsed
from puna.backends.ggml.hardware import Kept
from puna.dtypes import DTYPES
from puna.errors import BackendError
from puna.graph import T, input_, state, weight
from puna.graph.cases import cases
from puna.graph.ops import apply

BOUNDS = Bounds(T=16, O=4, S=2)


def opened():
    return open_backend("ggml:cpu", threads=1)


def test_the_processor_is_a_device_with_the_memory_that_is_free():
    (cpu,) = (device for device in devices("ggml") if device.name == "cpu")
    assert 0 < cpu.free <= cpu.memory
    assert not cpu.accelerates
    assert opened().name == "ggml:cpu"


def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are():
    with pytest.raises(BackendError, match=r"backend 'ggml': there is no device 'abacus'; there is .*cpu"):
        open_backend("ggml:abacus")


def test_a_library_with_other_tensors_is_an_error(monkeypatch):
    lib = api.library()
    monkeypatch.setattr(lib, "tensor_overhead", lambda: 400)
    with pytest.raises(BackendError, match=r"loading libggml .* in /here: a tensor takes 400 bytes, not 368; "):
        lib._check("/here")


def test_a_package_that_is_missing_is_said_with_two_ways_to_go_on(monkeypatch):
    monkeypatch.delenv("PUNA_GGML", raising=False)
    monkeypatch.setattr(api, "find_spec", lambda name: None)
    with pytest.raises(
        BackendError, match=r"'libggml' is not installed; pip install 'puna\[ggml\]' works, and so does PU"
    ):
        api.library.__wrapped__()


def test_a_folder_without_a_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PUNA_GGML", str(tmp_path))
    with pytest.raises(BackendError, match=rf"loading libggml: none in {tmp_path}; PUNA_GGML=<its folder>"):
        api.library.__wrapped__()


def test_a_weight_that_lies_well_is_not_copied():
    whole = np.zeros(4 * 32 * 4 + 32, np.uint8)
    start = -whole.ctypes.data % 32
    raw = whole[start : start + 4 * 32 * 4]
    (hardware,) = found.open_devices("cpu", 1)
    kept = Kept(hardware, 0, (32, 4, 1, 1), raw)
    assert api.Tensor.from_address(kept.tensor).data == raw.ctypes.data
    apart = Kept(hardware, 0, (31, 4, 1, 1), raw[4 : 4 + 31 * 16])
    assert api.Tensor.from_address(apart.tensor).data != raw[4:].ctypes.data


def test_a_matrix_takes_the_bytes_that_it_is_stored_in():
    (case,) = (case for case in cases("linear") if case.what == "Q4_0, 1 rows")
    backend = opened()
    weights = backend.load(stored(case))
    backend.compile([case.node], weights, BOUNDS)
    assert weights.nbytes == 37 * 256 // 32 * 18


def test_a_graph_is_built_once_for_each_number_of_tokens():
    program = opened().compile([-input_("x", (T, 3), dtypes.F32)], opened().load({}), BOUNDS)
    for rows in (2, 5, 2, 5, 2):
        x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        np.testing.assert_array_equal(program.run({"x": x})[0], -x)
    assert len(program._plans) == 2


def test_what_does_not_fit_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(found, "memory_of", lambda handle, on_host: (10**9, 2 * 10**9))
    backend, kept = opened(), state("kept", (10**6, 1000), dtypes.F32)
    rows, slots = input_("rows", (T, 1000), dtypes.F32), input_("slots", (T,), dtypes.I32)
    with pytest.raises(BackendError, match=r"take 4\.0 GB, and 1\.0 of 2\.0 GB are free; a smaller"):
        backend.compile([apply("write", kept, slots, rows)], backend.load({}), BOUNDS)


def test_progress_ends_with_all_bytes():
    said = []
    (case,) = (case for case in cases("linear") if case.what == "Q4_0, 1 rows")
    backend = opened()
    backend.compile([case.node], backend.load(stored(case), lambda done, total: said.append((done, total))), BOUNDS)
    assert said[-1] == (37 * 256 // 32 * 18,) * 2


def test_a_weight_of_another_shape_is_an_error():
    (case,) = (case for case in cases("linear") if case.what == "Q4_0, 1 rows")
    node = apply("linear", input_("x", (T, 256), dtypes.F32), weight("w0", (38, 256), DTYPES["Q4_0"]), None)
    backend = opened()
    with pytest.raises(BackendError, match=r"weight 'w0' of shape \(38, 256\), Q4_0 was not loaded; found shape"):
        backend.compile([node], backend.load(stored(case)), BOUNDS)


@pytest.mark.parametrize("wrong", [5, -1])
def test_an_index_outside_is_an_error_that_names_the_op(wrong):
    backend, table = opened(), input_("rows", (5, 3), dtypes.F32)
    program = backend.compile([apply("take", table, input_("ids", (T,), dtypes.I32))], backend.load({}), BOUNDS)
    with pytest.raises(BackendError, match=r"take\[T, 3\].*: an index of 'ids' lies outside of 0 to 4"):
        program.run({"rows": np.zeros((5, 3), np.float32), "ids": np.array([0, wrong], np.int32)})


def test_states_are_taken_out_and_put_back_by_units():
    backend, kept = opened(), state("kept", (4, 8), dtypes.F16)
    rows, slots = input_("rows", (T, 8), dtypes.F32), input_("slots", (T,), dtypes.I32)
    one, other = (backend.compile([apply("write", kept, slots, rows)], backend.load({}), BOUNDS) for _ in range(2))
    given = np.arange(32, dtype=np.float32).reshape(4, 8)
    one.run({"rows": given, "slots": np.arange(4, dtype=np.int32)})
    other.put("kept", 2, [0], one.fetch("kept", 2, [1]))
    np.testing.assert_array_equal(other.states[0].view(np.float16), [*given[2:], *np.zeros((2, 8))])


def test_axes_are_joined_that_need_not_be_apart():
    assert collapsed((2, 3, 4, 5, 6), (6,)) == ([120, 6], [1, 6])
    assert collapsed((2, 1, 4), (2, 3, 4)) == ([2, 1, 4], [2, 3, 4])
    assert collapsed((), ()) == ([1], [1])
