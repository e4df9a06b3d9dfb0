"""Whether memory can be had, before it is taken: what the machine has, and what control groups grant."""

from __future__ import annotations

import logging
from pathlib import Path

from puna.errors import BackendError
from puna.machine import cgroup

_log = logging.getLogger("puna")
MEMINFO = Path("/proc/meminfo")


def require(nbytes: int, what: str, meminfo: Path = MEMINFO, root: Path = cgroup.ROOT, own: Path = cgroup.OWN) -> None:
    """Raises BackendError where `nbytes` can never be had; a warning where they are not free now."""
    have = _kilobytes(meminfo)
    if not have:
        return
    granted = [int(text) for text in _limits(root, own) if text.isdigit()]
    most = min([have["MemTotal"], *granted]) + have.get("SwapTotal", 0)
    free = min([have.get("MemAvailable", most), *granted]) + have.get("SwapFree", 0)
    if nbytes > most:
        limit = "its control group grants" if granted and min(granted) < have["MemTotal"] else "this machine has"
        raise BackendError(
            f"loading: {what} take {readable(nbytes)} of memory, and {limit} {readable(most)}; "
            "a smaller quantization or model would fit"
        )
    if nbytes > free:
        _log.warning("loading: %s take %s of memory, and %s are free", what, readable(nbytes), readable(free))


def _limits(root: Path, own: Path) -> list[str]:
    names = ("memory.max", "memory.limit_in_bytes")
    return [text for name in names for text in cgroup.settings("memory", name, root, own)]


def _kilobytes(meminfo: Path) -> dict[str, int]:
    """The system's own figures in bytes; nothing where it has none."""
    try:
        lines = [line.split() for line in meminfo.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}


def readable(nbytes: int) -> str:
    """As in "4.1 GB"."""
    return f"{nbytes / 1e9:.1f} GB"
