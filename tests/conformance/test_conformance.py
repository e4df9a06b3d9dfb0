"""Every backend computes every op as the numpy definition does; the table, cases and tolerances are puna.graph's."""

import numpy as np
import pytest

from chosen import ASKED
from conformance.running import check, outcome, run, sizes
from puna.backends import numpy as definition
from puna.backends import open_backend
from puna.backends.cpu import _native
from puna.backends.cpu import open_backend as open_cpu
from puna.backends.numpy import concrete
from puna.graph import fused  # noqa: F401 - fills the op table
from puna.graph.cases import CASES, cases
from puna.graph.lower import decompose
from puna.graph.ops import OPS

BACKENDS = {name: lambda name=name: open_backend(name) for name in ASKED} or {
    f"cpu-{isa}": lambda isa=isa: open_cpu(2, isa) for isa in _native.isas()
}
OPENED = {}
RUNNABLE = sorted(name for name, op in OPS.items() if not op.leaf)


def opened(name):
    if name not in OPENED:
        OPENED[name] = BACKENDS[name]()
    return OPENED[name]


def test_every_op_has_cases_and_every_case_has_an_op():
    assert sorted(CASES) == RUNNABLE
    for op in RUNNABLE:
        found = cases(op)
        assert len(found) >= 2
        assert {case.op for case in found} <= {op}
        assert len({case.what for case in found}) == len(found)


@pytest.mark.parametrize("op", RUNNABLE)
def test_the_definition_keeps_the_ops_shape_and_dtype_rule(op):
    for case in cases(op):
        result = run(definition.open_backend(), case)
        assert result.shape == concrete(case.node.shape, sizes(case)), case
        assert op == "write" or result.dtype == case.node.dtype.numpy, case


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", RUNNABLE)
def test_a_backend_computes_what_the_definition_says(op, backend):
    for case in cases(op):
        assert opened(backend).supports(case.node), case
        expected, result = run(definition.open_backend(), case), run(opened(backend), case)
        assert result.dtype == expected.dtype, case
        check(f"{case} on {backend}", result, expected, OPS[op].nmse)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", ["causal_conv1d", "recurrence"])
def test_a_backend_leaves_the_memory_that_the_definition_leaves(op, backend):
    for case in cases(op):
        (expected,), (kept,) = (outcome(b, case)[1] for b in (definition.open_backend(), opened(backend)))
        check(f"{case} on {backend}", kept.view(np.float32).reshape(expected.shape), expected, OPS[op].nmse)


@pytest.mark.parametrize("op", [name for name in RUNNABLE if OPS[name].fused])
def test_a_fused_op_means_its_decomposition(op):
    for case in cases(op):
        (meaning,) = decompose([case.node], lambda node: not OPS[node.op].fused, "numpy")
        backend = definition.open_backend()
        expected, result = run(backend, case), run(backend, case, meaning)
        check(str(case), result, expected, max(OPS[op].nmse, 1e-9))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", [name for name in RUNNABLE if OPS[name].fused])
def test_a_backend_without_a_fused_op_runs_its_decomposition(op, backend):
    for case in cases(op)[:3]:
        (meaning,) = decompose([case.node], lambda node: not OPS[node.op].fused, "cpu")
        expected, result = run(definition.open_backend(), case, meaning), run(opened(backend), case, meaning)
        check(f"{case} on {backend}", result, expected, 1e-9)
