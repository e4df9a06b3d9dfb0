"""The torch backend beside the conformance suite: devices, packed weights, memory, errors."""

import numpy as np
import pytest
import torch

import puna
from cli.tiny import write_tiny
from conformance.running import check, run, stored
from puna import dtypes, quants
from puna.backends import devices, open_backend
from puna.backends import numpy as definition
from puna.backends.base import Bounds
from puna.backends.torch import TorchBackend
from puna.backends.torch import hardware as found
from puna.backends.torch.values import State, quantize_q8_0
from puna.backends.torch.weights import Weights
from puna.dtypes import DTYPES
from puna.errors import BackendError
from puna.graph import S, T, input_, state, weight
from puna.graph.cases import cases
from puna.graph.ops import OPS, apply

CPU = torch.device("cpu")
BOUNDS = Bounds(T=16, O=4, S=2)


def test_the_processor_is_a_device_with_the_memory_that_is_free():
    (cpu,) = (device for device in devices("torch") if device.name == "cpu")
    assert 0 < cpu.free <= cpu.memory
    assert not cpu.accelerates
    assert open_backend("torch:cpu", threads=1).name == "torch:cpu"


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "cpu:x:1", "xpu:one"])
def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are(name):
    with pytest.raises(BackendError, match=f"backend 'torch': there is no device '{name}'; there is .*cpu"):
        open_backend(f"torch:{name}")


def test_rocm_is_what_torch_calls_cuda(monkeypatch):
    there = found.Device("cuda:0", "a card", 1, 1, accelerates=True)
    monkeypatch.setattr(found, "devices", lambda: [there])
    assert found.open_device("rocm") == torch.device("cuda:0")
    assert found.open_device("") == torch.device("cuda:0")


@pytest.mark.parametrize("op", ["linear", "experts", "embedding"])
@pytest.mark.parametrize("expand", [True, False])
def test_packed_and_expanded_weights_give_the_same(op, expand):
    backend = TorchBackend(CPU, expand)
    for case in cases(op):
        expected = run(definition.open_backend(), case)
        check(str(case), run(backend, case), expected, 1e-11)


def test_packed_weights_take_the_bytes_that_are_stored():
    for expand, nbytes in ((False, 37 * 256 // 32 * 18), (True, 37 * 256 * 4)):
        backend = TorchBackend(CPU, expand)
        (case,) = (case for case in cases("linear") if case.what == "Q4_0, 1 rows")
        weights = backend.load(stored(case))
        backend.compile([case.node], weights, BOUNDS)
        assert weights.nbytes == nbytes


def test_weights_in_bfloat16_are_near_enough():
    for case in cases("linear"):
        backend = TorchBackend(CPU, True)
        backend._wide = torch.bfloat16
        check(str(case), run(backend, case), run(definition.open_backend(), case), OPS["linear"].nmse)


def test_a_packed_matrix_is_decoded_tile_by_tile(monkeypatch):
    monkeypatch.setitem(__import__("puna.backends.torch.values", fromlist=["TILE"]).TILE, "cpu", 1000)
    case = next(case for case in cases("linear") if case.what.startswith("19 x 96"))
    check(str(case), run(TorchBackend(CPU, False), case), run(definition.open_backend(), case), 1e-11)


def test_what_does_not_fit_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(found, "memory", lambda device: (10**9, 2 * 10**9))
    backend = TorchBackend(CPU)
    kept = state("kept", (10**6, 1000), dtypes.F32)
    rows, slots = input_("rows", (T, 1000), dtypes.F32), input_("slots", (T,), dtypes.I32)
    with pytest.raises(BackendError, match=r"take 4\.0 GB, and 1\.0 of 2\.0 GB are free; a smaller"):
        backend.compile([apply("write", kept, slots, rows)], backend.load({}), BOUNDS)


def test_matrices_stay_packed_where_floats_of_them_would_not_fit(monkeypatch):
    case = next(case for case in cases("linear") if case.what == "Q4_0, 1 rows")
    monkeypatch.setattr("puna.backends.torch.weights.memory", lambda device: (25_000, 10**9))
    backend = TorchBackend(CPU)
    weights = backend.load(stored(case))
    assert backend.compile([case.node], weights, BOUNDS)
    assert weights.nbytes == 37 * 256 // 32 * 18


def test_progress_ends_with_all_bytes():
    said = []
    case = next(case for case in cases("linear") if case.what.startswith("19 x 96"))
    weights = TorchBackend(CPU).load(stored(case), lambda done, total: said.append((done, total)))
    TorchBackend(CPU).compile([case.node], weights, BOUNDS)
    assert said[-1] == (100 * 96 // 32 * 34 + 400,) * 2


def test_a_weight_of_another_shape_is_an_error():
    case = next(case for case in cases("linear") if case.what == "Q4_0, 1 rows")
    w = weight("w0", (38, 256), DTYPES["Q4_0"])
    node = apply("linear", input_("x", (T, 256), dtypes.F32), w, None)
    with pytest.raises(BackendError, match=r"weight 'w0' of shape \(38, 256\), Q4_0 was not loaded; found shape"):
        TorchBackend(CPU).compile([node], Weights(stored(case), CPU, torch.float32, None, None), BOUNDS)


@pytest.mark.parametrize("ids", [[5], [-1]])
def test_an_index_outside_is_an_error_that_names_the_op(ids):
    backend, ids = TorchBackend(CPU), np.array(ids, np.int32)
    table = input_("rows", (5, 3), dtypes.F32)
    program = backend.compile([apply("take", table, input_("ids", (T,), dtypes.I32))], backend.load({}), BOUNDS)
    with pytest.raises(BackendError, match=r"take\[T, 3\].*: an index of 'ids' lies outside of 0 to 4"):
        program.run({"rows": np.zeros((5, 3), np.float32), "ids": ids})


def test_an_input_of_another_shape_is_an_error():
    backend = TorchBackend(CPU)
    program = backend.compile([-input_("x", (T, 3), dtypes.F32)], backend.load({}), BOUNDS)
    for shape in ((2, 4), (17, 3), (3,)):
        with pytest.raises(BackendError, match=r"input 'x': shape .* does not fit \(T, 3\)"):
            program.run({"x": np.zeros(shape, np.float32)})


def test_q8_0_is_written_as_quants_writes_it():
    values = np.random.default_rng(1).standard_normal((50, 64)).astype(np.float32)
    values[3], values[4, :32], values[5] = 0, 1e-42, 3e4
    expected = quants.quantize(values, "Q8_0").reshape(-1, 34)
    np.testing.assert_array_equal(quantize_q8_0(torch.tensor(values)).numpy(), expected)


def test_a_slot_below_zero_is_not_written():
    kept = State(dtypes.F16, (3, 4), CPU)
    kept.write(torch.tensor([-1, 2], dtype=torch.int32), torch.ones(2, 4))
    assert kept.values().tolist() == [[0] * 4, [0] * 4, [1] * 4]


def test_tokens_of_sequences_that_are_not_there_are_an_error():
    backend, size = TorchBackend(CPU), (4, 1, 8)
    k, v = state("k", size, dtypes.F32), state("v", size, dtypes.F32)
    places = [input_(name, (T,), dtypes.I32) for name in ("positions", "sequence")]
    read = input_("table", (S, 2), dtypes.I32), input_("lengths", (S,), dtypes.I32)
    attrs = {"scale": 1.0, "causal": True, "window": 0, "softcap": 0.0, "block_size": 2}
    node = apply("attention", input_("q", (T, 1, 8), dtypes.F32), k, v, *places, *read, None, **attrs)
    program = backend.compile([node], backend.load({}), BOUNDS)
    right = {"positions": [0], "sequence": [0], "table": [[0, 1]], "lengths": [1]}
    for wrong, said in (
        ({"sequence": [1]}, "a token of sequence 1; there are 1"),
        ({"table": [[2, 1]]}, "a table names a block beyond the 2 that there are"),
        ({"positions": [4], "lengths": [5]}, "position 4; a table has 4"),
    ):
        inputs = {name: np.array(array, np.int32) for name, array in (right | wrong).items()}
        with pytest.raises(BackendError, match=said):
            program.run({"q": np.zeros((1, 1, 8), np.float32), **inputs})


def test_what_was_computed_is_saved_and_gone_on_from(tmp_path):
    source, prompt = write_tiny(tmp_path / "tiny.gguf"), [3, *range(80)]
    models = [puna.load(source, backend="torch:cpu", kv_type="f16") for _ in range(2)]
    assert models[0].save_prefix(tmp_path / "saved", prompt) == 81
    assert models[1].load_prefix(tmp_path / "saved") == prompt
    for model in models:
        last = [*model.generate([*prompt, 10], temperature=0, num_predict=3)][-1]
        assert last.stats.cached_tokens == 81
    rows = [model._runtime.engine.runner.program.fetch("cache.1.v", 64, [0, 1]) for model in models]
    np.testing.assert_array_equal(rows[0][:, 0], rows[1][:, 0])
