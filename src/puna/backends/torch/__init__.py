"""The torch backend: a graph's nodes as torch functions, on any device that torch has, or split over several."""

from __future__ import annotations

import torch

from puna.backends.torch.hardware import devices, open_device
from puna.backends.torch.parallel import ParallelBackend, names_of
from puna.backends.torch.single import TorchBackend
from puna.machine.threads import default_threads

__all__ = ["ParallelBackend", "TorchBackend", "devices", "open_backend"]


def open_backend(threads: int | None = None, device: str = "") -> TorchBackend | ParallelBackend:
    """The backend on a device ("cuda:1", "mps", "cpu"; "": the best there is), or on several ("cuda:0,1").

    Threads are the processor's, shared among the processes of several devices.
    """
    names = names_of(device)
    share = max(1, (threads or default_threads()) // len(names))
    opened = [open_device(name) for name in names]
    if opened[0].type == "cpu":
        torch.set_num_threads(share)
    return ParallelBackend(list(map(str, opened)), share) if len(opened) > 1 else TorchBackend(opened[0])
