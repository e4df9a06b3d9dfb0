"""Hostile inputs of the cpu backend: an error or some result, never a crash, and the program goes on afterwards."""

from contextlib import suppress

import numpy as np
import pytest

from conformance.running import stored
from puna import dtypes
from puna.backends.base import Bounds
from puna.backends.cpu import _native, open_backend
from puna.errors import BackendError
from puna.graph import fused  # noqa: F401 - fills the op table
from puna.graph.cases import cases
from puna.graph.ops import OPS
from puna.graph.tensor import topological

ISAS = _native.isas()
WRONG = (-1, 1, 63, 64, 10**6, 2**31 - 1, -(2**31), 2**31 - 64)
CASES = {f"{op}: {case.what}": case for op in sorted(OPS) if not OPS[op].leaf for case in cases(op)}
READERS = ("attention", "causal_conv1d", "recurrence")
"""Ops that read or write where an input says."""
INDEXED = [name for name, case in CASES.items() if case.op in READERS]


def program(case, isa):
    backend = open_backend(3, isa)
    return backend.compile([case.node], backend.load(stored(case)), Bounds(T=128, O=8, S=64))


def survives(compiled, inputs):
    with suppress(BackendError):
        return compiled.run(inputs)[0].copy()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", INDEXED)
def test_indices_that_name_nothing_never_crash(name, isa):
    case, rng = CASES[name], np.random.default_rng(len(name))
    compiled = program(case, isa)
    whole = {n.name: n.dtype for n in topological([case.node]) if n.op == "input"}
    for which, array in case.inputs.items():
        if whole.get(which) is not dtypes.I32 or not array.size:
            continue
        for wrong in WRONG:
            one = array.copy()
            one.reshape(-1)[rng.integers(array.size)] = wrong
            survives(compiled, case.inputs | {which: one})
            survives(compiled, case.inputs | {which: np.full_like(array, wrong)})
        survives(compiled, case.inputs | {which: rng.integers(-(2**31), 2**31, array.shape).astype(np.int32)})
    compiled.run(case.inputs)  # no error: what was wrong has left nothing behind


@pytest.mark.parametrize("op", ["causal_conv1d", "recurrence"])
@pytest.mark.parametrize("which", ["x2", "x3"])  # where memory is taken from, and left
def test_memory_that_another_sequence_writes_is_an_error(op, which):
    case = CASES[f"{op}: a ragged batch"]
    compiled = program(case, "auto")
    places = case.inputs[which].copy()
    places[0] = case.inputs["x3"][1]
    with pytest.raises(BackendError, match="where another sequence writes"):
        compiled.run(case.inputs | {which: places})
    compiled.run(case.inputs)
