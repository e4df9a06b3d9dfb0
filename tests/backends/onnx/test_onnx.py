"""The ONNX backend beside the conformance suite: its model, devices, codes, states, errors."""

import numpy as np
import onnx
import pytest

from conformance.running import check, run, stored
from puna import dtypes, quants
from puna.backends import devices, open_backend
from puna.backends import numpy as definition
from puna.backends.affine import TYPES
from puna.backends.base import Bounds
from puna.backends.onnx import OnnxBackend
from puna.backends.onnx import hardware as found
from puna.backends.onnx.values import FLOATS, kept_bits
from puna.backends.onnx.weights import arrays, nbytes
from puna.dtypes import DTYPES
from puna.errors import BackendError
from puna.graph import S, T, input_, state, weight
from puna.graph.cases import cases
from puna.graph.ops import apply

BOUNDS = Bounds(T=16, O=4, S=2)


def written(dtype: str, slots: int = 8):
    """A program that writes rows of 32 into a state."""
    backend, kept = OnnxBackend("cpu"), state("kept", (slots, 32), DTYPES[dtype])
    node = apply("write", kept, input_("slots", (T,), dtypes.I32), input_("rows", (T, 32), dtypes.F32))
    return backend.compile([node], backend.load({}), BOUNDS)


def some(case_of: str, what: str):
    (case,) = (case for case in cases(case_of) if case.what == what)
    return case


def test_the_processor_is_a_device_with_the_memory_that_is_free():
    (cpu,) = (device for device in devices("onnx") if device.name == "cpu")
    assert 0 < cpu.free <= cpu.memory
    assert not cpu.accelerates
    assert open_backend("onnx:cpu").name == "onnx:cpu"


def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are():
    with pytest.raises(BackendError, match=r"has no device 'abacus'; there is .*cpu; for GPUs install onnxruntime-gpu"):
        open_backend("onnx:abacus")


@pytest.mark.parametrize("name", TYPES)
def test_a_matrix_of_codes_takes_the_bytes_that_were_said_before(name):
    class Matrix:
        shape, dtype = (6, 512), DTYPES[name]
        raw = quants.quantize(np.ones((6, 512), np.float32), name)

    made = dict(arrays("w", Matrix, halves=False))
    assert sum(array.nbytes for array in made.values()) == nbytes(Matrix.dtype, Matrix.shape)
    assert made["w.codes"].nbytes == 6 * 512 * kept_bits(Matrix.dtype) // 8


def test_products_with_codes_are_float_products_if_asked_for():
    for case in (case for case in cases("linear") if case.node.inputs[1].dtype.name in TYPES):
        backend = OnnxBackend("cpu", taking=FLOATS)
        check(str(case), run(backend, case), run(definition.open_backend(), case), 1e-11)


def test_a_graph_is_one_valid_model_with_symbolic_sizes_and_its_weights_outside():
    case = some("linear", "Q4_0, 1 rows")
    backend = OnnxBackend("cpu")
    model = backend.compile([case.node], backend.load(stored(case)), BOUNDS)._written.model
    (given,) = (info for info in model.graph.input if info.name == "x0")
    assert [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim] == ["T", 256]
    outside = {i.name for i in model.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL}
    assert outside == {"w0.codes", "w0.scales"}
    assert model.ByteSize() < 4096


def test_a_state_is_changed_in_place():
    program = written("F16")
    places = [value.data_ptr() for value in program.kept["kept"].values]
    for slot in (3, 5):
        program.run({"slots": np.array([slot], np.int32), "rows": np.ones((1, 32), np.float32)})
    assert [value.data_ptr() for value in program.kept["kept"].values] == places
    (held,) = program.states
    assert held.ctypes.data == places[0]
    assert held[:, 0].tolist() == [0, 0, 0, 1, 0, 1, 0, 0]


def test_what_does_not_fit_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(found, "free_memory", lambda: 10**9)
    monkeypatch.setattr(found, "machine_memory", lambda: 2 * 10**9)
    with pytest.raises(BackendError, match=r"take 1\.3 GB, and 1\.0 of 2\.0 GB are free; a smaller"):
        written("F32", 10**7)


def test_progress_ends_with_all_bytes():
    said, case, backend = [], some("linear", "Q4_0, 1 rows"), OnnxBackend("cpu")
    backend.compile([case.node], backend.load(stored(case), lambda done, total: said.append((done, total))), BOUNDS)
    assert said[-1] == (37 * 256 // 32 * 18,) * 2


def test_a_weight_of_another_shape_is_an_error():
    case, backend = some("linear", "Q4_0, 1 rows"), OnnxBackend("cpu")
    node = apply("linear", input_("x", (T, 256), dtypes.F32), weight("w0", (38, 256), DTYPES["Q4_0"]), None)
    with pytest.raises(BackendError, match=r"weight 'w0' of shape \(38, 256\), Q4_0 was not loaded; found shape"):
        backend.compile([node], backend.load(stored(case)), BOUNDS)


@pytest.mark.parametrize("wrong", [5, -1])
def test_an_index_outside_is_an_error_that_names_the_op(wrong):
    backend, table = OnnxBackend("cpu"), input_("rows", (5, 3), dtypes.F32)
    program = backend.compile([apply("take", table, input_("ids", (T,), dtypes.I32))], backend.load({}), BOUNDS)
    with pytest.raises(BackendError, match=r"take\[T, 3\].*: an index of 'ids' lies outside of 0 to 4"):
        program.run({"rows": np.zeros((5, 3), np.float32), "ids": np.array([0, wrong], np.int32)})


def test_an_input_of_another_shape_is_an_error():
    backend = OnnxBackend("cpu")
    program = backend.compile([-input_("x", (T, 3), dtypes.F32)], backend.load({}), BOUNDS)
    for shape in ((2, 4), (17, 3), (3,)):
        with pytest.raises(BackendError, match=r"input 'x': shape .* does not fit \(T, 3\)"):
            program.run({"x": np.zeros(shape, np.float32)})


def test_q8_0_is_written_as_quants_writes_it():
    values = np.random.default_rng(1).standard_normal((8, 32)).astype(np.float32)
    values[3], values[4], values[5] = 0, 1e-42, 3e4
    program = written("Q8_0")
    program.run({"slots": np.arange(8, dtype=np.int32), "rows": values})
    codes, scales = program.states
    expected = quants.quantize(values, "Q8_0").reshape(-1, 34)
    np.testing.assert_array_equal(scales.view(np.uint8).reshape(8, 2), expected[:, :2])
    np.testing.assert_array_equal(codes.view(np.uint8), expected[:, 2:])


def test_a_slot_below_zero_is_not_written():
    (kept,) = written("F16", 3).run({"slots": np.array([-1, 2], np.int32), "rows": np.ones((2, 32), np.float32)})
    assert kept.shape == (3, 32)
    assert kept[:, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("dtype", ["F32", "F16", "Q8_0"])
def test_what_is_taken_out_of_a_state_can_be_put_back(dtype):
    one, other = (written(dtype) for _ in range(2))
    rows = np.random.default_rng(2).standard_normal((8, 32)).astype(np.float32)
    (first,) = one.run({"slots": np.arange(8, dtype=np.int32), "rows": rows})
    other.put("kept", 2, [3, 0], one.fetch("kept", 2, [1, 2]))
    (second,) = other.run({"slots": np.array([-1], np.int32), "rows": rows[:1]})
    expected = np.zeros((8, 32), np.float32)
    expected[6:], expected[:2] = first[2:4], first[4:6]
    np.testing.assert_array_equal(second, expected)


def test_tokens_of_sequences_that_are_not_there_are_an_error():
    backend, size = OnnxBackend("cpu"), (4, 1, 8)
    k, v = state("k", size, dtypes.F32), state("v", size, dtypes.F32)
    places = [input_(name, (T,), dtypes.I32) for name in ("positions", "sequence")]
    read = input_("table", (S, 2), dtypes.I32), input_("lengths", (S,), dtypes.I32)
    attrs = {"scale": 1.0, "causal": True, "window": 0, "softcap": 0.0, "block_size": 2}
    node = apply("attention", input_("q", (T, 1, 8), dtypes.F32), k, v, *places, *read, None, **attrs)
    program = backend.compile([node], backend.load({}), BOUNDS)
    given = {"positions": [0], "sequence": [1], "table": [[0, 1]], "lengths": [1]}
    inputs = {name: np.array(array, np.int32) for name, array in given.items()}
    with pytest.raises(BackendError, match="a token of sequence 1; there are 1"):
        program.run({"q": np.zeros((1, 1, 8), np.float32), **inputs})
