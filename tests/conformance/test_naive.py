"""Every fused op, and those with memory per sequence, against an independent loop in double precision."""

import numpy as np
import pytest

from conformance.naive import LOOPS
from conformance.running import check, run
from puna.backends import numpy as definition
from puna.backends.cpu import open_backend as open_cpu
from puna.graph import fused  # noqa: F401 - fills the op table
from puna.graph.cases import cases
from puna.graph.ops import OPS

LOOPED = sorted([*(name for name, op in OPS.items() if op.fused), "causal_conv1d", "recurrence"])
BACKENDS = {"numpy": definition.open_backend, "cpu": lambda: open_cpu(1)}


def looped(case):
    backend = definition.open_backend()
    values = [None if i is None else run(backend, case, i).tolist() for i in case.node.inputs]
    return np.array(LOOPS[case.op](*values, case.node.attrs), np.float64)


def test_every_such_op_has_a_loop():
    assert sorted(LOOPS) == LOOPED


@pytest.mark.parametrize("op", LOOPED)
def test_an_op_is_what_its_loop_computes(op):
    for case in cases(op):
        expected = looped(case)
        for name, opened in BACKENDS.items():
            result = run(opened(), case)
            check(
                f"{case} on {name}", result, expected.reshape(result.shape).astype(np.float32), max(OPS[op].nmse, 1e-9)
            )
