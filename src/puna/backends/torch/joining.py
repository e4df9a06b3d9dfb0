"""How processes come together to sum: torch.distributed, over gloo on processors and over nccl on GPUs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from puna.errors import BackendError

HOST = "127.0.0.1"
PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others in a sum: as long as one may take to read its weights."""

OVER = {"cuda": "nccl", "xpu": "xccl"}
"""What sums go through, by the kind of device; else gloo."""


def meeting_place(count: int) -> Any:
    """Where `count` processes meet; its `port` is what the others are told."""
    return dist.TCPStore(HOST, 0, count, is_master=True, wait_for_workers=False)


def join(device: torch.device, rank: int, count: int, place: Any) -> None:
    """Take part as process `rank` of `count`; `place` is the meeting place, or its port."""
    store = dist.TCPStore(HOST, place, count, is_master=False) if isinstance(place, int) else place
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(OVER.get(device.type, "gloo"), store=store, rank=rank, world_size=count, timeout=PATIENCE)


def require_none() -> None:
    """Raises BackendError where this process takes part in a group."""
    if dist.is_initialized():
        raise BackendError(
            "backend 'torch': this process takes part in a group already; another process could run a second one"
        )


def leave() -> None:
    """Take part no longer."""
    if dist.is_initialized():
        dist.destroy_process_group()
