"""Threads of the cpu backend: idle, forked, refused by the system, and more of them than cores."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from puna import dtypes
from puna.backends.base import Bounds
from puna.backends.cpu import _native, open_backend
from puna.graph import T, input_

PROGRAM = """
import os, resource, sys
import numpy as np
from puna import dtypes
from puna.backends.base import Bounds
from puna.backends.cpu import _native, open_backend
from puna.errors import BackendError
from puna.graph import T, input_

def compiled(threads):
    backend = open_backend(threads)
    x = input_("x", (T, 4096), dtypes.F32)
    return backend.compile([(x * 2.0).sum(1)], backend.load({}), Bounds(T=64, O=1, S=1))

def works(program, rows=64):
    return (program.run({"x": np.ones((rows, 4096), np.float32)})[0] == 8192).all()
"""


def run(text):
    """What a fresh Python prints; it must end by itself."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM + text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def doubled(threads, backend=None):
    backend = backend or open_backend(threads)
    x = input_("x", (T, 512), dtypes.F32)
    return backend.compile([x * 2.0], backend.load({}), Bounds(T=64, O=1, S=1))


def test_threads_that_have_nothing_to_do_use_no_cpu():
    program = doubled(4)
    program.run({"x": np.ones((64, 512), np.float32)})
    time.sleep(0.2)
    begun = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - begun < 0.05


@pytest.mark.parametrize("threads", [2, 3, 5, 16])
def test_any_number_of_threads_works_also_after_they_slept(threads):
    program, x = doubled(threads), np.arange(64 * 512, dtype=np.float32).reshape(64, 512)
    for pause in (0, 0, 0.005, 0, 0.02, 0):
        for rows in (1, 64, 3):
            np.testing.assert_array_equal(program.run({"x": x[:rows]})[0], x[:rows] * 2)
        time.sleep(pause)


def test_programs_of_one_backend_take_turns_when_several_threads_run_them():
    backend = open_backend(3)

    def right(factor):
        program, x = doubled(3, backend), np.full((64, 512), factor, np.float32)
        return all((program.run({"x": x})[0] == 2 * factor).all() for _ in range(300))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(right, range(1, 5))) == [True] * 4


def test_a_forked_child_starts_threads_of_its_own_and_the_parent_keeps_its():
    found = run(
        "program = compiled(3)\n"
        "assert works(program)\n"
        "for _ in range(3):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        grandchild = os.fork()\n"
        "        fine = works(program) and works(program, 1) and works(compiled(2))\n"
        "        fine = fine and (grandchild == 0 or os.waitpid(grandchild, 0)[1] == 0)\n"
        "        del program\n"
        "        os._exit(not fine)\n"
        "    print(os.waitpid(child, 0)[1], works(program))\n"
    )
    assert found == ["0", "True"] * 3


def test_threads_that_the_system_refuses_are_an_error():
    found = run(
        "program = compiled(2)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        "try:\n"
        "    open_backend(512)\n"
        "except BackendError as error:\n"
        "    print(error)\n"
        "print(works(program))\n"
    )
    assert " ".join(found[:5]) == "backend 'cpu': starting 512 threads:"
    assert found[-1] == "True"


def test_weights_are_packed_without_threads_that_the_system_refuses():
    found = run(
        "raw, out = np.zeros(18 * 64, np.uint8), np.zeros(_native.packed_bytes(2, 64, 32), np.uint8)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        "print(_native.Packing([(2, 1, 64, 32, raw, out, False)], 512).wait(60))\n"
    )
    assert found == ["True"]


def test_a_core_that_others_use_is_left_to_them_for_longer_each_time():
    free, now, rests = _native.FreeThreads(4), 0.0, []
    for _ in range(7):
        while free.count(now) == 4:  # half of a core is missing
            now += 0.005
            free.learn(0.0025, 0.005, now)
        begun = now
        while free.count(now) == 3:  # nothing is
            now += 0.001
            free.learn(0.0, 0.001, now)
        rests.append(round(1000 * (now - begun)))
    assert rests == pytest.approx([20, 40, 80, 160, 320, 640, 640], abs=1)


def test_as_many_threads_rest_as_cores_are_missing_but_one_works_on():
    for missing, left in ((0.3, 8), (0.6, 7), (1.0, 7), (2.0, 6), (7.8, 1)):
        free = _native.FreeThreads(8)
        free.learn(missing * 0.1, 0.1, 0.1)
        assert free.count(0.1) == left


def test_a_short_disturbance_changes_nothing():
    free = _native.FreeThreads(2)
    free.learn(0.002, 0.004, 0.004)
    for i in range(1, 100):
        free.learn(0.0, 0.002, 0.004 + 0.002 * i)
        assert free.count(0.004 + 0.002 * i) == 2


def test_threads_without_a_core_sit_out_and_results_stay():
    program, x = doubled(24), np.arange(64 * 512, dtype=np.float32).reshape(64, 512)
    for _ in range(300):
        np.testing.assert_array_equal(program.run({"x": x})[0], x * 2)
