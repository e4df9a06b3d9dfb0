"""torch.compile where somebody asks for it: one kernel each of norms, rotations and gates, which else are several.

It pays where a device waits for many small kernels to be launched; what it makes differs from the rest by roundings.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from puna.errors import BackendError

SWITCH = "PUNA_TORCH_COMPILE"
"""1 asks for it; 0, or nothing, does not."""

OPS = ("rms_norm", "layer_norm", "rope", "silu_mul", "gelu_mul")
"""Fused ops of several kernels that nothing but torch itself makes."""


def wanted(device: torch.device) -> bool:
    """Whether it is asked for; BackendError where it is, and something that it takes is missing."""
    asked = os.environ.get(SWITCH, "0")
    if asked not in ("", "0", "1"):
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
    """The function made of fewer kernels, for inputs of any size."""
    made: Callable[..., Any] = torch.compile(function, dynamic=True)
    return made
