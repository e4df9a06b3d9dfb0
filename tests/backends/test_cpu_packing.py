"""Weights on their way into panels: in the background, from mapped files, with progress."""

import mmap
import os
from itertools import pairwise

import numpy as np
import pytest

from puna import dtypes
from puna.backends.base import Bounds
from puna.backends.cpu import _native, open_backend
from puna.backends.cpu import weights as packing
from puna.errors import BackendError
from puna.graph import T, input_, weight
from puna.graph.ops import apply
from puna.quants import dequantize, quantize

COLUMNS = 256


class Mapped:
    """A matrix in a mapped file, at an odd place of it."""

    def __init__(self, path, values, name):
        raw = quantize(values, name).reshape(-1)
        path.write_bytes(bytes(37) + raw.tobytes())
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.shape, self.dtype = values.shape, dtypes.DTYPES[name]
        self.raw = np.frombuffer(self._map, np.uint8)[37:]

    def numpy(self):
        return dequantize(self.raw, self.dtype.name, self.shape)


@pytest.fixture
def matrices(tmp_path):
    random = np.random.default_rng(2)
    rows = {"a": (8200, "Q4_0"), "b": (100, "Q6_K"), "c": (17, "Q8_0"), "d": (4097, "Q4_K")}
    return {
        name: Mapped(tmp_path / name, random.standard_normal((n, COLUMNS)).astype(np.float32), kind)
        for name, (n, kind) in rows.items()
    }


def program_of(backend, matrices, progress=None):
    x = input_("x", (T, COLUMNS), dtypes.F32)
    outputs = [apply("linear", x, weight(name, m.shape, m.dtype), None) for name, m in matrices.items()]
    loaded = backend.load(matrices, progress)
    return backend.compile(outputs, loaded, Bounds(T=4, O=1, S=1)), loaded


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_run_waits_until_all_weights_are_packed(matrices, threads):
    program, _ = program_of(open_backend(threads), matrices)
    x = np.eye(4, COLUMNS, dtype=np.float32)
    for result, matrix in zip(program.run({"x": x}), matrices.values(), strict=True):
        expected = matrix.numpy()[:, :4].T
        np.testing.assert_allclose(result, expected, rtol=0.01, atol=0.01 * np.abs(expected).max())


def test_progress_is_told_to_who_waits_and_ends_with_everything(matrices):
    calls = []
    _, loaded = program_of(open_backend(1), matrices, lambda done, total: calls.append((done, total)))
    assert calls == []
    loaded.finish()
    total = sum(m.raw.nbytes for m in matrices.values())
    assert calls[-1] == (total, total)
    assert all(done <= total for done, _ in calls)
    loaded.finish()
    assert len([call for call in calls if call == (total, total)]) == 1


def test_all_weights_of_a_graph_are_packed_by_one_call(matrices, monkeypatch):
    made, real = [], _native.Packing
    monkeypatch.setattr(packing._native, "Packing", lambda jobs, threads: made.append(len(jobs)) or real(jobs, threads))
    program, _ = program_of(open_backend(1), matrices)
    program.run({"x": np.ones((1, COLUMNS), np.float32)})
    assert made == [len(matrices)]


def test_pages_of_the_file_are_given_back(matrices):
    _, loaded = program_of(open_backend(2), matrices)
    loaded.finish()
    address = matrices["a"].raw.ctypes.data
    with open("/proc/self/smaps") as file:
        lines = file.read().splitlines()
    inside = [i for i, line in enumerate(lines) if holds(line, address)]
    resident = next(line for line in lines[inside[0] :] if line.startswith("Rss:"))
    assert int(resident.split()[1]) == 0


def holds(line, address):
    head = line.split(" ")[0]
    if ":" in head or "-" not in head:
        return False
    begin, end = (int(part, 16) for part in head.split("-"))
    return begin <= address < end


def test_weights_may_be_given_up_while_they_are_packed(matrices):
    for _ in range(5):
        program, loaded = program_of(open_backend(2), matrices)
        del program, loaded


def test_a_child_that_was_forked_while_weights_are_packed_says_so_and_ends(tmp_path):
    matrix = Mapped(tmp_path / "w", np.zeros((60000, COLUMNS), np.float32), "Q4_0")
    program, loaded = program_of(open_backend(1), {"w": matrix})
    if not (child := os.fork()):
        try:
            program.run({"x": np.ones((1, COLUMNS), np.float32)})
        except BackendError as error:
            del program, loaded
            os._exit("forked while weights were taken in" not in str(error))
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert not program.run({"x": np.ones((1, COLUMNS), np.float32)})[0].any()


def test_weights_that_cannot_fit_are_refused_each_time_before_anything_is_packed(matrices, monkeypatch):
    def refuse(nbytes, what):
        raise BackendError(f"{what}: {nbytes}")

    made = []
    monkeypatch.setattr(packing, "require", refuse)
    monkeypatch.setattr(packing._native, "Packing", lambda *args: made.append(args))
    backend = open_backend(1)
    loaded = backend.load(matrices)
    x = input_("x", (T, COLUMNS), dtypes.F32)
    output = apply("linear", x, weight("a", matrices["a"].shape, matrices["a"].dtype), None)
    for _ in range(2):
        with pytest.raises(BackendError, match="the weights: "):
            backend.compile([output], loaded, Bounds(T=4, O=1, S=1))
    assert made == []


def test_memory_that_the_system_refuses_is_an_error_with_the_amount(matrices, monkeypatch):
    def refuse(nbytes, zero):
        raise MemoryError

    backend = open_backend(1)
    loaded = backend.load(matrices)
    monkeypatch.setattr(packing._native, "allocate", refuse)
    with pytest.raises(BackendError, match=r"refuses 0.0 GB for weights, with 0.0 GB taken; a limit \(ulimit -v\)"):
        loaded.packed("a", matrices["a"].shape, matrices["a"].dtype)


def test_panels_lie_side_by_side_in_few_blocks_so_that_hardly_a_huge_page_is_there_in_part(matrices, monkeypatch):
    megabyte = 1 << 20
    blocks = []
    monkeypatch.setattr(packing._native, "allocate", lambda n, zero: (blocks.append(n), np.empty(n, np.uint8))[1])
    loaded = open_backend(1).load(matrices)
    sizes = [34, 34, 34, 20, 65, 34, 5, 1]  # megabytes
    places = [loaded._memory(size * megabyte) for size in sizes]
    # 34 three times and 20 in one; 65 + 1 to a whole page, more than half; 34 in a third; 5 behind 20, and 1 after it.
    assert blocks == [128 * megabyte, 66 * megabyte, 128 * megabyte]
    assert [place.nbytes for place in places] == [size * megabyte for size in sizes]
    begins = [place.ctypes.data for place in places]
    assert begins[6] == begins[3] + 20 * megabyte
    assert begins[7] == begins[6] + 5 * megabyte
    ends = [begin + size * megabyte for begin, size in zip(begins, sizes, strict=True)]
    spans = sorted(zip(begins, ends, strict=True))
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_buffers_of_another_size_are_refused():
    raw, out = np.zeros(18 * 16, np.uint8), np.zeros(_native.packed_bytes(2, 16, 32), np.uint8)
    for job in [(2, 1, 17, 32, raw, out), (2, 1, 16, 64, raw, out), (2, 2, 16, 32, raw, out), (2, 1, 16, 33, raw, out)]:
        with pytest.raises(ValueError, match="does not have the size"):
            _native.Packing([(*job, False)], 1)
    with pytest.raises(RuntimeError, match="bad_cast"):
        _native.Packing([(2, 1, 16, 32, np.zeros(2 * 18 * 16, np.uint8)[::2], out, False)], 1)
    with pytest.raises(ValueError, match="type 77 has no kernel"):
        _native.Packing([(77, 1, 16, 32, raw, out, False)], 1)
