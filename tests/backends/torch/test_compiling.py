"""torch.compile where it is asked for: the same values, and an error where it cannot be."""

import pytest
import torch

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


def test_it_is_off_unless_asked_for(monkeypatch):
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
