"""What onnxruntime computes on, by its execution providers, and what fits. It knows no graph."""

from __future__ import annotations

import onnxruntime

from puna.backends.base import Device
from puna.errors import BackendError
from puna.machine.memory import UNKNOWN, free_memory, machine_memory

PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "NVIDIA's GPU"),
    "rocm": ("MIGraphXExecutionProvider", "AMD's GPU"),
    "dml": ("DmlExecutionProvider", "the GPU of Windows"),
    "cpu": ("CPUExecutionProvider", "this processor"),
}
"""Names of devices, the best first: onnxruntime's provider, and what it is."""


def devices() -> list[Device]:
    """What the installed build computes on, the best first; the processor is always there."""
    free, total, there = free_memory(), machine_memory(), onnxruntime.get_available_providers()
    found = []
    for name, (provider, what) in PROVIDERS.items():
        if provider in there:
            own = (
                (total, 0 if free == UNKNOWN else free) if name == "cpu" else (0, 0)
            )  # onnxruntime does not tell a GPU's
            found.append(Device(name, what, *own, accelerates=name != "cpu"))
    return found


def open_device(name: str) -> str:
    """The device of a name ("" is the best that is there); BackendError where it is not."""
    found = [device.name for device in devices()]
    if (name or found[0]) in found:
        return name or found[0]
    raise BackendError(
        f"backend 'onnx': this build of onnxruntime has no device '{name}'; there is {', '.join(found)}; for GPUs "
        "install onnxruntime-gpu, onnxruntime-migraphx or onnxruntime-directml instead"
    )


def require(device: str, nbytes: int, what: str) -> None:
    """Raises BackendError with the numbers where a processor has less free than `nbytes`; a GPU's is not known."""
    free, total = free_memory(), machine_memory()
    if device == "cpu" and nbytes > free:
        raise BackendError(
            f"loading on {device}: {what} take {nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} of {total / 1e9:.1f} GB are "
            "free; a smaller quantization, a smaller context or another backend would fit"
        )
