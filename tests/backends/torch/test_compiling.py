"""torch.compile where it is asked for: the same values, and an error where it cannot be."""

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from conformance.running import check, run
from puna.backends import numpy as definition
from puna.backends.torch import TorchBackend, compiling
from puna.backends.torch.compiling import wanted
from puna.errors import BackendError
from puna.graph.cases import cases

CPU = torch.device("cpu")


@pytest.mark.parametrize("op", ["rms_norm", "rope", "silu_mul"])
@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
def test_compiled_ops_compute_the_same(op):
    backend = TorchBackend(CPU, compiles=True)
    for case in cases(op)[:3]:
        check(str(case), run(backend, case), run(definition.open_backend(), case), 1e-9)


def test_a_processor_has_it_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.delenv(compiling.SWITCH, raising=False)
    assert not wanted(CPU)
    monkeypatch.setenv(compiling.SWITCH, "1")
    monkeypatch.setattr(compiling, "lacking", lambda device: "")
    assert wanted(CPU)


def test_what_it_lacks_is_said(monkeypatch):
    monkeypatch.setenv(compiling.SWITCH, "1")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match=r"torch.compile lacks a C\+\+ compiler \(g\+\+\); 0 works"):
        wanted(CPU)
    monkeypatch.setenv(compiling.SWITCH, "yes")
    with pytest.raises(BackendError, match="PUNA_TORCH_COMPILE is 'yes'; 0 or 1 works"):
        wanted(CPU)


def test_a_gpu_has_it_where_triton_is_unless_it_is_turned_off(monkeypatch):
    monkeypatch.delenv(compiling.SWITCH, raising=False)
    gpu = torch.device("cuda")
    for there in (True, False):
        monkeypatch.setattr(compiling, "find_spec", lambda name, there=there: there or None)
        assert wanted(gpu) is there
    monkeypatch.setattr(compiling, "find_spec", lambda name: True)
    monkeypatch.setenv(compiling.SWITCH, "0")
    assert not wanted(gpu)


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(monkeypatch, caplog):
    tried = []

    def failing(*given):
        tried.append(given)
        raise TorchDynamoException("no kernel\nand a long story")

    def double(x):
        return 2 * x

    monkeypatch.setattr(torch, "compile", lambda function, dynamic: failing)
    function = compiling.compiled.__wrapped__(double)
    assert [function(1), function(2)] == [2, 4]
    assert tried == [(1,)]
    assert caplog.messages == ["torch.compile of double: no kernel; going on without"]
