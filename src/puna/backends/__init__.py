"""Backends by name. One is imported only when it is asked for."""

from __future__ import annotations

import importlib
import logging
from typing import cast

from puna.backends.base import Backend
from puna.errors import BackendError

MODULES = {"numpy": "puna.backends.numpy", "null": "puna.backends.null", "cpu": "puna.backends.cpu"}
"""Module of each backend; it has a function `open_backend(threads) -> Backend`."""

NOT_BUILT = (
    "backend 'cpu': the native module was not built on this machine; "
    "install a C++20 compiler (Debian: apt install g++ python3-dev) and reinstall puna"
)
_log = logging.getLogger("puna")


def open_backend(name: str = "auto", *, threads: int | None = None) -> Backend:
    """The backend `name`; "auto" is cpu, or numpy (said once in the log) where cpu was not built.

    BackendError names what is missing and how to install it.
    """
    if name == "auto":
        try:
            return open_backend("cpu", threads=threads)
        except BackendError as error:
            _log.warning("%s; running on numpy, which is slow", error)
            name = "numpy"
    if name not in MODULES:
        raise BackendError(f"backend '{name}' is unknown; known: {', '.join(sorted(MODULES))}")
    try:
        module = importlib.import_module(MODULES[name])
    except ImportError as error:
        if name == "cpu" and error.name == "puna.backends.cpu._native":
            raise BackendError(NOT_BUILT) from error
        raise
    return cast(Backend, module.open_backend(threads))
