"""How many threads to use: one for each physical core that this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def default_threads() -> int:
    """Physical cores within the process' affinity, and within its cgroup's limit."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {_siblings(cpu) for cpu in usable}
    limit = quota()
    return max(1, len(siblings) if limit is None else min(len(siblings), max(1, int(limit + 0.5))))


def _siblings(cpu: int) -> str:
    """Which hardware threads share the core of this one."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs that the cgroup grants (version 2, then 1); None where there is no limit."""
    try:
        granted, period = (root / "cpu.max").read_text().split()
        return None if granted == "max" else int(granted) / int(period)
    except (OSError, ValueError):
        pass
    try:
        granted, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if int(granted) <= 0 else int(granted) / int(period)
    except (OSError, ValueError):
        return None
