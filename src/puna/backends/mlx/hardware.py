"""MLX's devices, what memory they have, and what fits. It knows no graph."""

from __future__ import annotations

import mlx.core as mx

from puna.backends.base import Device
from puna.errors import BackendError
from puna.machine.memory import UNKNOWN, free_memory, machine_memory

KINDS = {"gpu": mx.gpu, "cpu": mx.cpu}
"""The best first."""


def open_device(name: str) -> mx.Device:
    """The device of a name ("gpu", "cpu"; "" is the best that is there); BackendError where it is not."""
    found = [device.name for device in devices()]
    if (name or found[0]) in found:
        return mx.Device(KINDS[name or found[0]])
    raise BackendError(f"backend 'mlx': there is no device '{name}'; there is {', '.join(found)}")


def devices() -> list[Device]:
    """What MLX can compute on here, the best first; the processor is always there."""
    out = []
    for name, kind in KINDS.items():
        if mx.is_available(mx.Device(kind)):
            free, total = memory(mx.Device(kind))
            what = "this machine's GPU" if name == "gpu" else "this processor"
            out.append(Device(name, what, total, 0 if free == UNKNOWN else free, accelerates=name == "gpu"))
    return out


def memory(device: mx.Device) -> tuple[int, int]:
    """Bytes free and in all."""
    if device.type == mx.cpu:
        return free_memory(), machine_memory()
    said = mx.device_info()
    total = int(said.get("max_recommended_working_set_size") or said.get("memory_size") or machine_memory())
    return total - mx.get_active_memory(), total


def require(device: mx.Device, nbytes: int, what: str) -> None:
    """Raises BackendError with the numbers where a device has less free than `nbytes`."""
    free, total = memory(device)
    if nbytes > free:
        raise BackendError(
            f"loading on {device}: {what} take {nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} of {total / 1e9:.1f} GB are "
            "free; a smaller quantization, a smaller context or another backend would fit"
        )
