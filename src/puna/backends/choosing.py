"""What "auto" stands for: an accelerator with room for the model where there is one, else the cpu backend."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from puna.backends import LIBRARIES, devices, module_of
from puna.errors import BackendError
from puna.machine.accelerators import sign_of_accelerator

ACCELERATED = ("mlx", "torch")
"""Backends that run on accelerators, the best first."""

_log = logging.getLogger("puna")


class Choice(NamedTuple):
    """A backend, with its device, and why it was taken."""

    name: str
    why: str


def choose(needs: Callable[[], int], sign: Callable[[], str] = sign_of_accelerator) -> Choice:
    """The backend for a model that takes `needs()` bytes; no library is imported where no driver speaks for it."""
    found = sign()
    if not found:
        return _processor("no accelerator on this machine")
    installed = [name for name in ACCELERATED if all(map(find_spec, LIBRARIES[name]))]
    if not installed:
        ways = " or ".join(f"pip install 'puna[{name}]'" for name in ACCELERATED)
        return _processor(f"there is {found}, but no backend for it is installed: {ways}")
    full = ""
    for name in installed:
        for device in (device for device in devices(name) if device.accelerates):
            room = f"{device.what}, {readable(device.free)} free, {readable(needs())} wanted"
            if device.free >= needs():
                return Choice(f"{name}:{device.name}", room)
            full = full or room
    none = f"there is {found}, but {', '.join(installed)} found no device"
    return _processor(f"too little memory on {full}" if full else none)


def _processor(why: str) -> Choice:
    try:
        module_of("cpu")
    except BackendError as error:
        _log.warning("%s; running on numpy, which is slow", error)
        return Choice("numpy", f"{why}, and the native module was not built")
    return Choice("cpu", why)


def readable(nbytes: int) -> str:
    """As in "4.1 GB"."""
    return f"{nbytes / 1e9:.1f} GB"
