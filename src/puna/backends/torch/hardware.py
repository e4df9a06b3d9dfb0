"""Devices by the names torch gives them, what memory they have, and what they can do. It knows no graph."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import torch

from puna.backends.base import Device
from puna.errors import BackendError
from puna.machine.memory import UNKNOWN, free_memory, machine_memory

ALIASES = {"": "cpu", "rocm": "cuda", "gpu": "cuda"}
"""ROCm's build of torch says cuda."""

KINDS = ("cuda", "xpu", "mps", "cpu")
"""The kinds of devices, the best first."""


def open_device(name: str) -> torch.device:
    """The device of a name ("cuda:1", "mps", "cpu"; "" is the best that is there); BackendError where it is not."""
    found = devices()
    if not name:
        return torch.device(found[0].name)
    kind, _, number = name.partition(":")
    kind = ALIASES.get(kind, kind)
    wanted = kind if kind in ("cpu", "mps") else f"{kind}:{number or 0}"
    if wanted not in [device.name for device in found] or (number and not number.isdigit()):
        there = ", ".join(device.name for device in found)
        raise BackendError(f"backend 'torch': there is no device '{name}'; there is {there}{_hint(kind)}")
    return torch.device(wanted)


def _hint(kind: str) -> str:
    built = torch.version.cuda or torch.version.hip
    return "; this torch was built without GPUs: https://pytorch.org/get-started has others" if (
        kind in ("cuda", "xpu") and not built
    ) else ""  # fmt: skip


def devices() -> list[Device]:
    """What torch can compute on here, the best first; the processor is always there."""
    return [device for kind in KINDS for device in FOUND[kind]()]


def _of(kind: str) -> Iterator[Device]:
    library = getattr(torch, kind, None)
    if library is None or not library.is_available():
        return
    for i in range(library.device_count()):
        free, total = memory(torch.device(kind, i))
        what = library.get_device_properties(i).name
        yield Device(f"{kind}:{i}", str(what), total, free, accelerates=True)


def _mps() -> Iterator[Device]:
    if torch.backends.mps.is_available():
        free, total = memory(torch.device("mps"))
        yield Device("mps", f"the GPU of this {platform.machine()}", total, free, accelerates=True)


def _processor() -> Iterator[Device]:
    free, total = memory(torch.device("cpu"))
    yield Device("cpu", f"this processor, {torch.get_num_threads()} threads", total, 0 if free == UNKNOWN else free)


FOUND = {"cuda": lambda: _of("cuda"), "xpu": lambda: _of("xpu"), "mps": _mps, "cpu": _processor}


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes free and in all."""
    if device.type == "cpu":
        return free_memory(), machine_memory()
    if device.type == "mps":
        total = int(torch.mps.recommended_max_memory())
        return total - int(torch.mps.current_allocated_memory()), total
    free, total = getattr(torch, device.type).mem_get_info(device)
    return int(free), int(total)


def require(device: torch.device, nbytes: int, what: str) -> None:
    """Raises BackendError with the numbers where a device has less free than `nbytes`."""
    free, total = memory(device)
    if nbytes > free:
        raise BackendError(
            f"loading on {device}: {what} take {nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} of {total / 1e9:.1f} GB are "
            "free; a smaller quantization, a smaller context or another backend would fit"
        )
