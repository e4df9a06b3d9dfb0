"""The MLX backend beside the conformance suite: devices, codes, memory, errors."""

import mlx.core as mx
import numpy as np
import pytest

from conformance.running import check, run, stored
from puna import dtypes, quants
from puna.backends import devices, open_backend
from puna.backends import numpy as definition
from puna.backends.base import Bounds
from puna.backends.mlx import MlxBackend
from puna.backends.mlx import hardware as found
from puna.backends.mlx.segments import Segment
from puna.backends.mlx.values import State, quantize_q8_0
from puna.dtypes import DTYPES
from puna.errors import BackendError
from puna.graph import S, T, input_, state, weight
from puna.graph.cases import cases
from puna.graph.ops import OPS, apply

CPU = mx.Device(mx.cpu)
BOUNDS = Bounds(T=16, O=4, S=2)


@pytest.fixture(autouse=True)
def _on_the_processor():
    with mx.stream(mx.cpu):
        yield


def test_the_processor_is_a_device_with_the_memory_that_is_free():
    (cpu,) = (device for device in devices("mlx") if device.name == "cpu")
    assert 0 < cpu.free <= cpu.memory
    assert not cpu.accelerates
    assert open_backend("mlx:cpu").name == "mlx:cpu"


def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are():
    with pytest.raises(BackendError, match=r"backend 'mlx': there is no device 'abacus'; there is .*cpu"):
        open_backend("mlx:abacus")


def test_a_matrix_of_codes_takes_its_bits_and_two_numbers_a_group():
    (case,) = (case for case in cases("linear") if case.what == "Q4_0, 1 rows")
    backend = MlxBackend(CPU)
    weights = backend.load(stored(case))
    backend.compile([case.node], weights, BOUNDS)
    assert weights.nbytes == 37 * 256 // 2 + 37 * 256 // 32 * 8


def test_matrices_in_float16_are_near_enough():
    for case in cases("linear"):
        backend = MlxBackend(CPU)
        backend._wide = mx.float16
        check(str(case), run(backend, case), run(definition.open_backend(), case), OPS["linear"].nmse)


def test_what_does_not_fit_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(found, "memory", lambda device: (10**9, 2 * 10**9))
    backend, kept = MlxBackend(CPU), state("kept", (10**6, 1000), dtypes.F32)
    rows, slots = input_("rows", (T, 1000), dtypes.F32), input_("slots", (T,), dtypes.I32)
    with pytest.raises(BackendError, match=r"take 4\.0 GB, and 1\.0 of 2\.0 GB are free; a smaller"):
        backend.compile([apply("write", kept, slots, rows)], backend.load({}), BOUNDS)


def test_progress_ends_with_all_bytes():
    said = []
    (case,) = (case for case in cases("linear") if case.what == "Q4_0, 1 rows")
    backend = MlxBackend(CPU)
    backend.compile([case.node], backend.load(stored(case), lambda done, total: said.append((done, total))), BOUNDS)
    assert said[-1] == (37 * 256 // 32 * 18,) * 2


def test_a_weight_of_another_shape_is_an_error():
    (case,) = (case for case in cases("linear") if case.what == "Q4_0, 1 rows")
    node = apply("linear", input_("x", (T, 256), dtypes.F32), weight("w0", (38, 256), DTYPES["Q4_0"]), None)
    backend = MlxBackend(CPU)
    with pytest.raises(BackendError, match=r"weight 'w0' of shape \(38, 256\), Q4_0 was not loaded; found shape"):
        backend.compile([node], backend.load(stored(case)), BOUNDS)


@pytest.mark.parametrize("wrong", [5, -1])
def test_an_index_outside_is_an_error_that_names_the_op(wrong):
    backend, table = MlxBackend(CPU), input_("rows", (5, 3), dtypes.F32)
    program = backend.compile([apply("take", table, input_("ids", (T,), dtypes.I32))], backend.load({}), BOUNDS)
    with pytest.raises(BackendError, match=r"take\[T, 3\].*: an index of 'ids' lies outside of 0 to 4"):
        program.run({"rows": np.zeros((5, 3), np.float32), "ids": np.array([0, wrong], np.int32)})


def test_an_input_of_another_shape_is_an_error():
    backend = MlxBackend(CPU)
    program = backend.compile([-input_("x", (T, 3), dtypes.F32)], backend.load({}), BOUNDS)
    for shape in ((2, 4), (17, 3), (3,)):
        with pytest.raises(BackendError, match=r"input 'x': shape .* does not fit \(T, 3\)"):
            program.run({"x": np.zeros(shape, np.float32)})


def test_q8_0_is_written_as_quants_writes_it():
    values = np.random.default_rng(1).standard_normal((50, 64)).astype(np.float32)
    values[3], values[4, :32], values[5] = 0, 1e-42, 3e4
    expected = quants.quantize(values, "Q8_0").reshape(-1, 34)
    np.testing.assert_array_equal(np.array(quantize_q8_0(mx.array(values))), expected)


def test_a_slot_below_zero_is_not_written():
    kept = State(dtypes.F16, (3, 4))
    kept.write(mx.array([-1, 2]), mx.ones((2, 4)))
    assert kept.values().tolist() == [[0] * 4, [0] * 4, [1] * 4]


@pytest.mark.parametrize("dtype", ["F32", "F16", "Q8_0"])
def test_what_is_taken_out_of_a_state_can_be_put_back(dtype):
    backend, kept = MlxBackend(CPU), state("kept", (8, 32), DTYPES[dtype])
    node = apply("write", kept, input_("slots", (T,), dtypes.I32), input_("rows", (T, 32), dtypes.F32))
    one, other = (backend.compile([node], backend.load({}), BOUNDS) for _ in range(2))
    rows = np.random.default_rng(2).standard_normal((8, 32)).astype(np.float32)
    (written,) = one.run({"slots": np.arange(8, dtype=np.int32), "rows": rows})
    other.put("kept", 2, [3, 0], one.fetch("kept", 2, [1, 2]))
    (found,) = other.run({"slots": np.array([-1], np.int32), "rows": rows[:1]})
    expected = np.zeros((8, 32), np.float32)
    expected[6:], expected[:2] = written[2:4], written[4:6]
    np.testing.assert_array_equal(found, expected)


def test_tokens_of_sequences_that_are_not_there_are_an_error():
    backend, size = MlxBackend(CPU), (4, 1, 8)
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


def test_decode_steps_are_compiled_once_for_each_size_and_give_the_same(monkeypatch):
    traced, real = [], Segment._traced
    monkeypatch.setattr(Segment, "_traced", lambda self, *given: traced.append(len(given)) or real(self, *given))
    backend, x, table = MlxBackend(CPU), input_("x", (T, 4), dtypes.F32), input_("table", (S, 2), dtypes.I32)
    kept, slots = state("kept", (8, 4), dtypes.F32), input_("slots", (T,), dtypes.I32)
    first = apply("silu", x * 3.0) + 1.0
    out = apply("take", apply("write", kept, slots, first), slots) * first
    program = backend.compile([out, table], backend.load({}), Bounds(T=16, O=4, S=8))
    for rows in (1, 2, 2, 1, 3):
        given = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
        inputs = {"x": given, "slots": np.arange(rows, dtype=np.int32), "table": np.zeros((3, 2), np.int32)}
        found, _ = program.run(inputs)
        expected = (3 * given / (1 + np.exp(-3 * given)) + 1) ** 2
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert sorted(traced) == [1] * 3 + [2] * 3  # each of two segments for each of three sizes
    program.run({**inputs, "table": np.zeros((1, 2), np.int32)})  # a prompt: more tokens than sequences
    assert len(traced) == 6
