"""torch.compile, on GPUs or where it is asked for: one kernel each of norms, rotations and gates, else several.

It pays where a device waits for many small kernels to be launched; what it makes differs from the rest by roundings.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from puna.errors import BackendError

_log = logging.getLogger("puna")

SWITCH = "PUNA_TORCH_COMPILE"
"""1 asks for it, 0 turns it off; if nothing is said, GPUs for which there is Triton have it."""

GPUS = ("cuda", "xpu")

OPS = ("rms_norm", "layer_norm", "rope", "silu_mul", "gelu_mul")
"""Fused ops of several kernels that nothing but torch itself makes."""


def wanted(device: torch.device) -> bool:
    """Whether a device has it; BackendError where it is asked for, and something that it takes is missing."""
    asked = os.environ.get(SWITCH, "")
    if not asked:
        return device.type in GPUS and not lacking(device)
    if asked not in ("0", "1"):
        raise BackendError(f"backend 'torch': {SWITCH} is {asked!r}; 0 or 1 works")
    if asked == "1" and (missing := lacking(device)):
        raise BackendError(f"backend 'torch': {SWITCH} is 1, and torch.compile lacks {missing}; 0 works")
    return asked == "1"


def lacking(device: torch.device) -> str:
    """What torch.compile has not got for a device, or nothing."""
    if device.type in ("cpu", "mps"):
        return "" if device.type == "mps" or shutil.which(os.environ.get("CXX") or "g++") else "a C++ compiler (g++)"
    return "" if find_spec("triton") else "triton (pip install triton)"


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function made of fewer kernels, for inputs of any size; itself from where it cannot be compiled."""
    from torch._dynamo.exc import TorchDynamoException  # slow to import, as all that torch.compile takes

    made: Callable[..., Any] = torch.compile(function, dynamic=True)

    def tried(*given: Any, **attrs: Any) -> Any:
        nonlocal made
        try:
            return made(*given, **attrs)
        except TorchDynamoException as error:
            _log.warning("torch.compile of %s: %s; going on without", function.__name__, str(error).splitlines()[0])
            made = function
            return function(*given, **attrs)

    return tried
