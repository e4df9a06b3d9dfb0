"""How many threads to use: as $PUNA_THREADS says, else one for each physical core that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from puna.errors import RequestError
from puna.machine import cgroup


def default_threads(root: Path = cgroup.ROOT, own: Path = cgroup.OWN) -> int:
    """$PUNA_THREADS, else physical cores within the process' affinity, and within what its control groups grant."""
    if wanted := os.environ.get("PUNA_THREADS"):
        if not wanted.isdecimal() or int(wanted) < 1:
            raise RequestError(f"threads: PUNA_THREADS is {wanted!r}; a whole number above zero works")
        return int(wanted)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {_siblings(cpu) for cpu in usable}
    limit = quota(root, own)
    return max(1, len(siblings) if limit is None else min(len(siblings), max(1, int(limit + 0.5))))


def _siblings(cpu: int) -> str:
    """Which hardware threads share the core of this one."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def quota(root: Path = cgroup.ROOT, own: Path = cgroup.OWN) -> float | None:
    """CPUs that the control groups of this process grant, the least of them; None where there is no limit."""
    pairs = [text.split() for text in cgroup.settings("cpu", "cpu.max", root, own)]
    older = (cgroup.settings("cpu", f"cpu.cfs_{name}_us", root, own) for name in ("quota", "period"))
    pairs += [list(pair) for pair in zip(*older, strict=False)]
    granted = [int(pair[0]) / int(pair[1]) for pair in pairs if len(pair) == 2 and all(n.isdigit() for n in pair)]
    return min(granted, default=None)
