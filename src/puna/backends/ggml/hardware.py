"""ggml's devices, what memory they have, and the buffers on them. It knows no graph."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from puna.backends.base import Array, Device
from puna.backends.ggml.api import InitParams, library
from puna.dtypes import BY_GGML_ID
from puna.errors import BackendError
from puna.machine.memory import UNKNOWN, free_memory
from puna.machine.threads import default_threads

CPU, GPU, IGPU = 0, 1, 2
"""Kinds of devices, as ggml numbers them."""
WEIGHTS = 1
"""What a buffer is used for, as ggml numbers it."""


class Hardware:
    """One device of ggml's, opened."""

    def __init__(self, found: Device, handle: int, kind: int, threads: int | None) -> None:
        self.name = found.name
        self._lib, self._handle = library(), handle
        self.backend = self._lib.backend_dev_init(handle, None)
        if not self.backend:
            raise BackendError(f"backend 'ggml': device '{found.name}' ({found.what}) does not open; another may")
        self.buffers = self._lib.backend_dev_buffer_type(handle)
        self.on_host = kind == CPU
        self._set_threads(default_threads() if threads is None else threads)

    def _set_threads(self, threads: int) -> None:
        registered = self._lib.backend_dev_backend_reg(self._handle)
        address = self._lib.backend_reg_get_proc_address(registered, b"ggml_backend_set_n_threads")
        if address:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(address)(self.backend, threads)

    def supports(self, tensor: int) -> bool:
        """Whether it computes a tensor."""
        return bool(self._lib.backend_dev_supports_op(self._handle, tensor))

    def memory(self) -> tuple[int, int]:
        """Bytes free and in all."""
        return memory_of(self._handle, self.on_host)

    def require(self, nbytes: int, what: str) -> None:
        """BackendError with the numbers where less is free than `nbytes`."""
        free, total = self.memory()
        if total and nbytes > free:
            raise BackendError(
                f"loading on ggml:{self.name}: {what} take {nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} of "
                f"{total / 1e9:.1f} GB are free; a smaller quantization, a smaller context or another backend would fit"
            )


def memory_of(handle: int, on_host: bool) -> tuple[int, int]:
    """Bytes free and in all of a device."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    library().backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    known = free_memory() if on_host else UNKNOWN
    return (free.value if known == UNKNOWN else known), total.value


def _found() -> list[tuple[Device, int, int]]:
    """Devices with their handles and kinds, those that accelerate first."""
    lib, out = library(), []
    for i in range(lib.backend_dev_count()):
        handle = lib.backend_dev_get(i)
        kind = lib.backend_dev_type(handle)
        if kind in (CPU, GPU, IGPU):
            free, total = memory_of(handle, kind == CPU)
            name, what = (f(handle).decode() for f in (lib.backend_dev_name, lib.backend_dev_description))
            out.append((Device(name.lower(), what, total, free, accelerates=kind != CPU), handle, kind))
    return sorted(out, key=lambda each: not each[0].accelerates)


def devices() -> list[Device]:
    """What this libggml computes on here, the best first."""
    return [device for device, _, _ in _found()]


def open_devices(names: str, threads: int | None) -> list[Hardware]:
    """Devices by name ("cpu", "cuda0,cpu" ...; "": the best that is there), with the host behind one that is not it.

    BackendError for a name that is not there.
    """
    there = {device.name: (device, handle, kind) for device, handle, kind in _found()}
    wanted = names.split(",") if names else list(there)[:1]
    if missing := [name for name in wanted if name not in there]:
        known = ", ".join(there) or "none"
        raise BackendError(f"backend 'ggml': there is no device '{missing[0]}'; there is {known}")
    hosts = [name for name, (_, _, kind) in there.items() if kind == CPU]
    behind = hosts[:1] if len(wanted) == 1 and wanted[0] not in hosts else []  # what it has no room for
    return [Hardware(*there[name], threads) for name in (*wanted, *behind)]


class Context:
    """Room for the descriptions of tensors; their bytes lie in buffers."""

    def __init__(self, size: int) -> None:
        self._lib = library()
        self.handle = self._lib.init(InitParams(size, None, True))

    def __del__(self) -> None:
        self._lib.free(self.handle)


class Kept:
    """A tensor with a buffer of its own, on a device."""

    def __init__(self, hardware: Hardware, type_: int, ne: tuple[int, int, int, int], given: Array | None) -> None:
        """With the bytes `given`, which are not copied where the device reads them; else zeros."""
        lib = self._lib = library()
        self.hardware = hardware
        self._context = Context(lib.tensor_overhead())
        self.tensor = lib.new_tensor_4d(self._context.handle, type_, *ne)
        self.dtype, self.nbytes = BY_GGML_ID[type_], lib.nbytes(self.tensor)
        self._given = given if given is not None and hardware.on_host and _aligned(hardware, given) else None
        if self._given is not None:
            place = self._given.ctypes.data
            self._buffer = lib.backend_cpu_buffer_from_ptr(place, self._given.nbytes)
        else:
            size = lib.backend_buft_get_alloc_size(hardware.buffers, self.tensor)
            self._buffer = lib.backend_buft_alloc_buffer(hardware.buffers, size)
            if not self._buffer:
                raise BackendError(f"loading on ggml:{hardware.name}: no room for {size} bytes more")
            place = lib.backend_buffer_get_base(self._buffer)
        lib.backend_tensor_alloc(self._buffer, self.tensor, place)
        if given is None:
            lib.backend_buffer_clear(self._buffer, 0)
        elif self._given is None:
            self.put(given)
        lib.backend_buffer_set_usage(self._buffer, WEIGHTS)

    def put(self, data: Array) -> None:
        """All of its bytes anew."""
        data = np.ascontiguousarray(data)
        self._lib.backend_tensor_set(self.tensor, data.ctypes.data, 0, min(data.nbytes, self.nbytes))

    def bytes(self) -> Array:
        """All of its bytes."""
        found = np.empty(self.nbytes, np.uint8)
        self._lib.backend_tensor_get(self.tensor, found.ctypes.data, 0, self.nbytes)
        return found

    def __del__(self) -> None:
        if buffer := getattr(self, "_buffer", None):
            self._lib.backend_buffer_free(buffer)


def _aligned(hardware: Hardware, given: Any) -> bool:
    alignment = library().backend_buft_get_alignment(hardware.buffers)
    return bool(given.flags.c_contiguous and given.nbytes and given.ctypes.data % alignment == 0)
