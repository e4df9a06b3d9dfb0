"""Threads of the cpu backend: idle, forked, refused by the system, and more of them than cores."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from puna import dtypes
from puna.backends.base import Bounds
from puna.backends.cpu import open_backend
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
