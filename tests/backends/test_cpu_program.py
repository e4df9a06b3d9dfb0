"""Programs: inputs, outputs, states, errors, threads."""

import sys

import numpy as np
import pytest

from puna import dtypes
from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.backends.cpu import _native
from puna.backends.cpu import open_backend as open_cpu
from puna.errors import BackendError
from puna.graph import O, T, input_, state, weight
from puna.graph.ops import apply

BOUNDS = Bounds(T=16, O=4, S=2)


class Values:
    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, dtypes.F32
        self.raw = values.reshape(-1).view(np.uint8)

    def numpy(self):
        return self.values


def compiled(*outputs, weights=None, threads=2):
    backend = open_cpu(threads)
    return backend.compile(outputs, backend.load(weights or {}), BOUNDS)


def kept():
    slots, values = input_("slots", (T,), dtypes.I32), input_("values", (T, 3), dtypes.F32)
    return apply("write", state("kept", (5, 3), dtypes.F32), slots, values)


def test_the_cpu_backend_opens_by_name():
    assert open_backend("cpu", threads=1).name == "cpu"


def test_states_persist_from_run_to_run_and_belong_to_one_program():
    one, other = compiled(kept()), compiled(kept())
    one.run({"slots": np.array([1], np.int32), "values": np.full((1, 3), 2, np.float32)})
    (after,) = one.run({"slots": np.array([3, -1], np.int32), "values": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(after, [[0] * 3, [2] * 3, [0] * 3, [1] * 3, [0] * 3])
    (untouched,) = other.run({"slots": np.array([-1], np.int32), "values": np.ones((1, 3), np.float32)})
    np.testing.assert_array_equal(untouched, np.zeros((5, 3)))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_program_runs_with_any_number_of_rows_up_to_its_bound(threads):
    x = input_("x", (T, 8), dtypes.F32)
    program = compiled((x * 2.0).sum(1), threads=threads)
    for n in (16, 1, 0, 7, 2, 3, 16):
        values = np.random.default_rng(n).standard_normal((n, 8)).astype(np.float32)
        (result,) = program.run({"x": values})
        np.testing.assert_allclose(result, values.sum(1, keepdims=True) * 2, rtol=1e-5)


def test_an_input_that_does_not_fit_is_refused():
    x, y = input_("x", (T, 8), dtypes.F32), input_("y", (T, 8), dtypes.F32)
    program = compiled(x + y)
    fine = np.zeros((3, 8), np.float32)
    for bad in (np.zeros((17, 8)), np.zeros((3, 7)), np.zeros(8), np.zeros((4, 8))):
        with pytest.raises(BackendError, match=r"input 'y': shape .* does not fit"):
            program.run({"x": fine, "y": bad})


def test_inputs_in_other_layouts_and_dtypes_are_read_by_value():
    (result,) = compiled(input_("x", (T, 3), dtypes.F32) + 1.0).run({"x": np.arange(12).reshape(3, 4).T})
    np.testing.assert_array_equal(result, np.arange(12).reshape(3, 4).T + 1)


def test_an_output_may_be_an_input_a_weight_or_a_view():
    x = input_("x", (T, 4), dtypes.F32)
    w = weight("w", (4,), dtypes.F32)
    program = compiled(
        x, w, x.reshape(T, 2, 2).permute(1, 0, 2), x, weights={"w": Values(np.arange(4, dtype=np.float32))}
    )
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    same, stored, turned, again = program.run({"x": values})
    np.testing.assert_array_equal(same, values)
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(stored, np.arange(4))
    np.testing.assert_array_equal(turned, values.reshape(3, 2, 2).transpose(1, 0, 2))


def test_an_id_outside_the_vocabulary_is_an_error_and_the_program_stays_usable():
    ids = input_("ids", (T,), dtypes.I32)
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    program = compiled(apply("embedding", ids, weight("w", (3, 4), dtypes.F32)), weights={"w": Values(table)})
    for bad in (3, -1, 2**31 - 1):
        with pytest.raises(BackendError, match="embedding w: an index lies outside"):
            program.run({"ids": np.array([0, bad], np.int32)})
    np.testing.assert_array_equal(program.run({"ids": np.array([2, 1], np.int32)})[0], table[[2, 1]])


def test_a_slot_or_row_outside_is_an_error():
    with pytest.raises(BackendError, match="write kept: an index lies outside"):
        compiled(kept()).run({"slots": np.array([5], np.int32), "values": np.ones((1, 3), np.float32)})
    taken = apply("take", input_("x", (T, 2), dtypes.F32), input_("rows", (O,), dtypes.I32))
    with pytest.raises(BackendError, match="take: an index lies outside"):
        compiled(taken).run({"x": np.ones((2, 2), np.float32), "rows": np.array([2], np.int32)})


def test_attention_refuses_slots_and_sequences_that_are_not_there():
    q, k, v = (input_(n, s, dtypes.F32) for n, s in (("q", (T, 1, 4)), ("k", (8, 1, 4)), ("v", (8, 1, 4))))
    shapes = {"positions": (T,), "sequence": (T,), "table": (1, 2), "lengths": (1,)}
    read = [input_(name, shape, dtypes.I32) for name, shape in shapes.items()]
    slots = input_("slots", (8,), dtypes.I32)
    keys, values = (apply("write", state(n, (8, 1, 4), dtypes.F16), slots, x) for n, x in (("k", k), ("v", v)))
    attrs = {"scale": 1.0, "causal": True, "window": 0, "softcap": 0.0, "block_size": 4}
    program = compiled(apply("attention", q, keys, values, *read, None, **attrs))
    fine = {
        **{"q": np.ones((1, 1, 4)), "k": np.ones((8, 1, 4)), "v": np.ones((8, 1, 4)), "slots": np.arange(8)},
        **{
            "positions": np.array([7]),
            "sequence": np.array([0]),
            "table": np.array([[0, 1]]),
            "lengths": np.array([8]),
        },
    }
    np.testing.assert_allclose(program.run(fine)[0], np.ones((1, 1, 4)), rtol=1e-6)
    for bad in (
        {"table": np.array([[0, 2]])},
        {"table": np.array([[0, -1]])},
    ):
        with pytest.raises(BackendError, match="attention: an index lies outside"):
            program.run(fine | bad)
    for length in (9, -1, 2**31 - 1, -(2**31)):
        with pytest.raises(BackendError, match="attention_plan: an index lies outside"):
            program.run(fine | {"lengths": np.array([length]), "positions": np.array([8])})
    with pytest.raises(BackendError, match="attention_plan: an index lies outside"):
        program.run(fine | {"sequence": np.array([1])})


def test_a_weight_that_was_not_loaded_is_named():
    with pytest.raises(BackendError, match=r"weight 'w' of shape \(3,\) was not loaded; found nothing"):
        compiled(weight("w", (3,), dtypes.F32) + 1.0)
    with pytest.raises(BackendError, match=r"weight 'w' of shape \(3,\) was not loaded; found shape \(2,\), F32"):
        compiled(weight("w", (3,), dtypes.F32) + 1.0, weights={"w": Values(np.zeros(2, np.float32))})


def test_an_op_without_a_kernel_is_refused_at_compile_time():
    x = input_("x", (T, 4), dtypes.F16)
    with pytest.raises(BackendError, match="backend 'cpu' cannot run op 'add'"):
        compiled(apply("add", x, x))


def test_memory_is_stated():
    memory = compiled(kept()).memory
    assert memory.states == 5 * 3 * 4
    assert memory.arena >= 16 * 3 * 4


def test_progress_reports_bytes_as_weights_are_taken():
    calls = []
    backend = open_cpu(1)
    loaded = backend.load({"w": Values(np.ones((16, 32), np.float32))}, lambda done, total: calls.append((done, total)))
    x = input_("x", (T, 32), dtypes.F32)
    backend.compile([apply("linear", x, weight("w", (16, 32), dtypes.F32), None)], loaded, BOUNDS)
    assert calls == [(2048, 2048)]
    assert loaded.nbytes >= 2048


def test_an_unknown_instruction_set_or_no_threads_are_refused():
    with pytest.raises(BackendError, match="does not run 'sse9'"):
        open_cpu(1, "sse9")
    with pytest.raises(BackendError, match="100000 threads; 1 to 512 work"):
        open_cpu(100000)
    with pytest.raises(BackendError, match="0 threads"):
        open_cpu(0)


def test_the_generic_kernels_run_everywhere():
    assert _native.isas()[0] == "generic"


@pytest.fixture
def not_built(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("puna.backends.cpu")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "puna.backends.cpu._native", None)


@pytest.mark.usefixtures("not_built")
def test_where_the_native_module_was_not_built_the_error_says_how_to_get_it():
    with pytest.raises(BackendError, match=r"the native module was not built .* install a C\+\+20 compiler"):
        open_backend("cpu")


@pytest.mark.usefixtures("not_built")
def test_where_the_native_module_was_not_built_auto_is_numpy_and_says_so(caplog):
    assert open_backend().name == "numpy"
    assert "running on numpy" in caplog.text


def test_a_profile_says_where_the_time_of_runs_went_and_no_more():
    x = input_("x", (T, 8), dtypes.F32)
    program = compiled(apply("softmax", x * 2.0).sum(1), threads=2)
    program.profile(True)
    spent = 0.0
    for n in (16, 1, 16):
        program.run({"x": np.ones((n, 8), np.float32)})
        spent += program.seconds
    profiles = program.profiles()
    assert len(profiles) == 2
    for profile in profiles:
        assert len(profile.seconds) == len(profile.units) == len(program.steps)
        assert [len(waits) for waits in profile.waits] == [len(s.phases) for s in program.schedules]
        assert 0 < sum(profile.seconds) + sum(map(sum, profile.waits)) <= spent
    assert all(sum(units) > 0 for units in zip(*(p.units for p in profiles), strict=True))


def test_a_profile_forgets_when_it_begins_again_and_collects_only_while_it_is_on():
    x = input_("x", (T, 8), dtypes.F32)
    program = compiled(x * 2.0)
    program.profile(True)
    program.run({"x": np.ones((4, 8), np.float32)})
    program.profile(False)
    program.run({"x": np.ones((4, 8), np.float32)})
    assert [(sum(p.seconds), sum(p.units)) for p in program.profiles()] == [(0, 0)] * 2


def test_a_program_shows_the_memory_of_its_states():
    program = compiled(kept())
    assert [state.nbytes for state in program.states] == [5 * 3 * 4]
