"""Backends by name, and by device: `cpu`, `torch`, `torch:cuda:1`. One is imported only when it is asked for."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from types import ModuleType
from typing import cast

from puna.backends.base import Backend, Device
from puna.errors import BackendError

MODULES = {
    "numpy": "puna.backends.numpy",
    "null": "puna.backends.null",
    "cpu": "puna.backends.cpu",
    "torch": "puna.backends.torch",
    "mlx": "puna.backends.mlx",
    "onnx": "puna.backends.onnx",
    "ggml": "puna.backends.ggml",
}
"""Module of each backend.

It has functions `open_backend(threads, device) -> Backend`, the device "" where none was named, and
`devices() -> Sequence[Device]`; those of `ALONE` have neither device nor `devices`.
"""

LIBRARIES = {"torch": ("torch",), "mlx": ("mlx",), "onnx": ("onnx", "onnxruntime")}
"""The packages that a backend does not go without; `pip install 'puna[<backend>]'` brings them."""

ALONE = ("numpy", "null")
"""Backends with one device, which has no name."""

NOT_BUILT = (
    "backend 'cpu': the native module was not built on this machine; "
    "install a C++20 compiler (Debian: apt install g++ python3-dev) and reinstall puna"
)
_log = logging.getLogger("puna")


def open_backend(name: str = "auto", *, threads: int | None = None) -> Backend:
    """The backend `name`, as in "cpu" or "torch:cuda:1"; "auto" is cpu, or numpy (said once in the log) without it.

    `puna.backends.choosing` is a better "auto": it also looks for accelerators. BackendError names what is missing and
    how to install it.
    """
    if name == "auto":
        try:
            return open_backend("cpu", threads=threads)
        except BackendError as error:
            _log.warning("%s; running on numpy, which is slow", error)
            name = "numpy"
    name, device = split(name)
    module = module_of(name)
    return cast(Backend, module.open_backend(threads) if name in ALONE else module.open_backend(threads, device))


def split(name: str) -> tuple[str, str]:
    """The backend and the device that a name says, the device "" if none; BackendError for what cannot be."""
    backend, _, device = name.partition(":")
    if backend not in MODULES:
        raise BackendError(f"backend '{backend}' is unknown; known: {', '.join(sorted(MODULES))}")
    if device and backend in ALONE:
        raise BackendError(f"backend '{backend}': it has no devices, and so no '{device}'; '{backend}' works")
    return backend, device


def module_of(name: str) -> ModuleType:
    """The module of a backend; BackendError where what it needs is not installed."""
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        if name == "cpu" and error.name == "puna.backends.cpu._native":
            raise BackendError(NOT_BUILT) from error
        missing = (error.name or "").split(".")[0]
        if missing in LIBRARIES.get(name, ()):
            raise BackendError(
                f"backend '{name}': the package '{missing}' is not installed; pip install 'puna[{name}]'"
            ) from error
        raise


def devices(name: str) -> Sequence[Device]:
    """The devices of a backend; BackendError where it is not installed."""
    module = module_of(name)
    return () if name in ALONE else cast("Sequence[Device]", module.devices())
