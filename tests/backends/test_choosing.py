"""Backends by name and device, and what "auto" stands for."""

import sys
from types import ModuleType

import pytest

from puna import backends
from puna.backends import choosing, open_backend
from puna.backends.base import Device
from puna.backends.choosing import Choice, choose
from puna.errors import BackendError
from puna.machine.accelerators import sign_of_accelerator

GB = 10**9
CARD = Device("gpu:1", "a card", 16 * GB, 10 * GB, accelerates=True)


@pytest.fixture
def abacus(monkeypatch):
    """A backend with an accelerator; its library is there."""
    module = ModuleType("abacus")
    module.devices = lambda: [Device("beads", "wood"), CARD]
    monkeypatch.setitem(sys.modules, "abacus", module)
    module.__spec__ = object()
    monkeypatch.setitem(backends.MODULES, "abacus", "abacus")
    monkeypatch.setitem(backends.LIBRARIES, "abacus", ("abacus",))
    monkeypatch.setattr(choosing, "ACCELERATED", ("abacus",))


def test_an_instruction_set_is_a_device_of_the_processor():
    assert open_backend("cpu:generic", threads=1).isa == "generic"
    assert "generic" in [device.name for device in backends.devices("cpu")]


def test_an_instruction_set_that_is_not_there_is_an_error_that_lists_the_others():
    with pytest.raises(BackendError, match=r"this machine does not run 'mmx'; it runs .*generic"):
        open_backend("cpu:mmx")


def test_numpy_has_no_devices():
    with pytest.raises(BackendError, match="backend 'numpy': it has no devices, and so no 'cuda'; 'numpy' works"):
        open_backend("numpy:cuda")


def test_a_library_that_is_missing_is_an_error_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(backends.MODULES, "abacus", "puna_no_such_library.backend")
    monkeypatch.setitem(backends.LIBRARIES, "abacus", ("puna_no_such_library",))
    with pytest.raises(BackendError, match=r"not installed; pip install 'puna\[abacus\]'"):
        open_backend("abacus:1")


def test_auto_is_the_processor_where_nothing_speaks_for_an_accelerator(abacus):
    assert choose(lambda: 1, lambda: "") == Choice("cpu", "no accelerator on this machine")


def test_auto_is_an_accelerator_with_room_for_the_model(abacus):
    room = "a card, 10.0 GB free, 4.0 GB wanted"
    assert choose(lambda: 4 * GB, lambda: "a driver") == Choice("abacus:gpu:1", room)


def test_auto_passes_over_an_accelerator_without_room_and_says_so(abacus):
    why = "too little memory on a card, 10.0 GB free, 11.0 GB wanted"
    assert choose(lambda: 11 * GB, lambda: "a driver") == Choice("cpu", why)


def test_a_driver_without_a_backend_for_it_is_said_with_the_way_to_install_one(monkeypatch):
    monkeypatch.setattr(choosing, "ACCELERATED", ("abacus",))
    monkeypatch.setitem(backends.LIBRARIES, "abacus", ("puna_no_such_library",))
    name, why = choose(lambda: 1, lambda: "a driver")
    assert (name, why) == (
        "cpu",
        "there is a driver, but no backend for it is installed: pip install 'puna[abacus]'",
    )


def test_a_file_of_a_driver_is_the_sign_of_an_accelerator(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert sign_of_accelerator(tmp_path) == ""
    (tmp_path / "kfd").touch()
    assert sign_of_accelerator(tmp_path) == "an AMD driver (ROCm)"
