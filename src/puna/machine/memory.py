"""How much memory this process and its children may still take: what is free, within what control groups grant."""

from __future__ import annotations

from pathlib import Path

from puna.machine import cgroup

MEMINFO = Path("/proc/meminfo")
UNKNOWN = 1 << 62
"""Where the machine does not say."""


def free_memory(meminfo: Path = MEMINFO, root: Path = cgroup.ROOT, own: Path = cgroup.OWN) -> int:
    """Bytes: the machine's, or what is left of a control group's limit where that is less."""
    return min([_available(meminfo), *_left(root, own)])


def machine_memory(meminfo: Path = MEMINFO) -> int:
    """Bytes that the machine has; 0 where it does not say."""
    return _figure(meminfo, "MemTotal") or 0


def _available(meminfo: Path) -> int:
    return _figure(meminfo, "MemAvailable") or UNKNOWN


def _figure(meminfo: Path, name: str) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _left(root: Path, own: Path) -> list[int]:
    """Of each control group with a limit; pages of files, which give way, do not count as taken."""
    left = []
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        files = ("memory", limit), ("memory", used), ("memory", "memory.stat")
        for most, now, stat in zip(*(cgroup.settings(*file, root, own) for file in files), strict=False):
            if most.isdigit() and now.isdigit():
                left.append(int(most) - int(now) + _reclaimable(stat))
    return left


def _reclaimable(stat: str) -> int:
    pairs = dict(line.split() for line in stat.splitlines() if len(line.split()) == 2)
    return int(pairs.get("total_inactive_file") or pairs.get("inactive_file") or 0)
