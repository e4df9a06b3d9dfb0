"""Which device has what, which of them computes what, and for how many sizes graphs are built."""

import numpy as np
import pytest

import puna
from cli.tiny import write_tiny
from puna import dtypes
from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.backends.ggml.buckets import roomy
from puna.backends.ggml.hardware import Hardware
from puna.backends.ggml.places import leaf_of, leaves_of, placed, together
from puna.errors import BackendError
from puna.graph import O, S, T, input_, state, weight
from puna.graph.ops import apply

BOUNDS = Bounds(T=100, O=100, S=4)
TEXT = [3, 4, 5, 6, 7, 8]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def program_of(model):
    return model._runtime.engine.runner.program


def test_groups_fill_one_room_after_another_and_the_last_takes_what_is_left():
    a, b, c, d = (weight(name, (size,), dtypes.F32) for name, size in zip("abcd", (4, 4, 9, 1), strict=True))
    size = {a: 4, b: 4, c: 9, d: 1}.__getitem__
    assert placed([[a], [b], [c], [d]], size, [9, 8, 0]) == {a: 0, b: 0, c: 2, d: 2}
    assert placed([[a, b], [c], [d]], size, [8, 10]) == {a: 0, b: 0, c: 1, d: 1}


def test_what_an_op_reads_lies_together():
    a, b, c, d = (weight(name, (1,), dtypes.F32) for name in "abcd")
    assert together([[a], [b, c], [d], [c, a]]) == [[b, c, a], [d]]
    k = state("k", (4, 8), dtypes.F32)
    written = apply("write", k, input_("slots", (T,), dtypes.I32), input_("rows", (T, 8), dtypes.F32))
    assert leaf_of(written) is k
    node = apply("linear", input_("x", (T, 1), dtypes.F32), weight("w", (2, 1), dtypes.F32), None)
    assert [leaf.name for leaf in leaves_of(node)] == ["w"]
    assert leaves_of(node, (1,)) == []


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.9])
def test_a_model_on_two_devices_says_what_it_says_on_one(tiny, monkeypatch, part):
    expected = puna.load(tiny, backend="ggml:cpu", threads=1).logits(TEXT)
    sizes, opened = [], {}
    total = sum(tensor.dtype.nbytes(tensor.shape) for tensor in puna.open_gguf(tiny).tensors.values())
    real = Hardware.memory

    def memory(self):
        first = opened.setdefault("first", self) is self
        return (int(part * total / 0.95) + sizes[0], 10**12) if first and sizes else real(self)

    whole = puna.load(tiny, backend="ggml:cpu,cpu", threads=1)
    whole.logits(TEXT)
    sizes.append(int((program_of(whole).memory.arena + 1) / 0.95))
    opened.clear()
    monkeypatch.setattr(Hardware, "memory", memory)
    monkeypatch.setattr(Hardware, "require", lambda *given: None)
    model = puna.load(tiny, backend="ggml:cpu,cpu", threads=1)
    np.testing.assert_allclose(model.logits(TEXT), expected, rtol=1e-5, atol=1e-5)
    homes = program_of(model)._homes.values()
    assert set(homes) == ({1} if part == 0 else {0, 1})
    places = {place for split in program_of(model)._splits.values() for _, place in split.stages.values()}
    assert {0, 1} <= places or part == 0
    said = [i for chunk in model.generate(TEXT, temperature=0, num_predict=8, ignore_eos=True) for i in chunk.tokens]
    truth = puna.load(tiny, backend="numpy").generate(TEXT, temperature=0, num_predict=8, ignore_eos=True)
    assert said == [i for chunk in truth for i in chunk.tokens]


def test_what_fits_on_no_device_is_refused_with_the_numbers(tiny, monkeypatch):
    monkeypatch.setattr(Hardware, "memory", lambda self: (1000, 2 * 10**9))
    with pytest.raises(BackendError, match=r"loading on ggml:cpu: .* take .* GB, and 0\.0 of 2\.0 GB are free"):
        puna.load(tiny, backend="ggml:cpu", threads=1).logits(TEXT)


@pytest.mark.parametrize("refused", [1, 5, 20])
def test_what_a_device_does_not_compute_the_host_does(tiny, monkeypatch, refused):
    expected = puna.load(tiny, backend="ggml:cpu", threads=1).logits(TEXT)
    calls, real = [], Hardware.supports

    def supports(self, tensor):
        calls.append(tensor)
        return len(calls) != refused and real(self, tensor)

    monkeypatch.setattr(Hardware, "supports", supports)
    model = puna.load(tiny, backend="ggml:cpu", threads=1)
    np.testing.assert_allclose(model.logits(TEXT), expected, rtol=1e-2, atol=5e-3)  # flash_attn_ext is in float16
    assert len(program_of(model)._hosted) == 1


def test_sizes_are_powers_of_two_and_then_multiples():
    assert [roomy(n) for n in (0, 1, 2, 3, 5, 9, 33, 64, 65, 129)] == [0, 1, 2, 4, 8, 16, 64, 64, 128, 192]


def test_few_graphs_do_for_many_sizes_and_what_is_added_leaves_no_trace():
    kept, w = state("kept", (128, 4), dtypes.F32), weight("w", (4, 4), dtypes.F32)
    rows, slots = input_("rows", (T, 4), dtypes.F32), input_("slots", (T,), dtypes.I32)
    wanted, table = input_("wanted", (O,), dtypes.I32), input_("table", (S, 2), dtypes.I32)
    written = apply("write", kept, slots, rows)
    out = apply("take", apply("linear", rows, w, None), wanted)

    class Matrix:
        shape, dtype = (4, 4), dtypes.F32
        raw = np.eye(4, dtype=np.float32).reshape(-1).view(np.uint8)

        def numpy(self):
            return np.eye(4, dtype=np.float32)

    backend = open_backend("ggml:cpu", threads=1)
    program = backend.compile([out, -table.cast(dtypes.F32)], backend.load({"w": Matrix()}), BOUNDS, writes=[written])
    expected = np.zeros((128, 4), np.float32)
    for n in range(33, 65):
        given = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)
        order = np.arange(n, dtype=np.int32)[::-1][: n - 20]
        inputs = {
            "rows": given,
            "slots": np.arange(n, dtype=np.int32),
            "wanted": order,
            "table": np.ones((3, 2), np.int32),
        }
        found, flags = program.run(inputs)
        np.testing.assert_allclose(found, given[order], rtol=1e-6)
        assert flags.tolist() == [[-1, -1]] * 3
        expected[:n] = given
        np.testing.assert_array_equal(program.states[0].view(np.float32).reshape(128, 4), expected)
    assert len(program._plans) <= 3
